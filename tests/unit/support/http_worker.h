#pragma once

/* A client and a worker of a shardlet with a route of kind http: what tests of both sides share. */

#include <criterion/criterion.h>

#include "common/alloc.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/fake_worker.h"
#include "tests/unit/support/talk.h"

/*
 * Begins a shardlet with that config, which has a listener `web` and one pool of this worker, which
 * listens already; lets the two greet each other, and opens a client. hello: the worker's.
 */
static inline void http_worker_begin(struct shardlet *shard, struct fake_worker *worker,
    struct talk *talk, const char *conf, const char *hello)
{
    struct frame frame;
    fake_clock_stop();
    shardlet_init(shard, conf, 0);
    cr_assert_eq(pool_open(&shard->pools[0]), 0);
    shardlet_turn(shard);
    cr_assert(fake_worker_accept(worker));
    cr_assert_eq(fake_worker_next(worker, &frame), FRAME_HELLO);
    cr_assert(memmem(frame.body.p, frame.body.n, "\"features\":[\"stream\"", 20) != NULL);
    fake_worker_send(worker, FRAME_HELLO, 0, 0, hello);
    shardlet_turn(shard);
    *talk = talk_open(shard, "web");
}

/* Ends all three, and sees that nothing is left of them. */
static inline void http_worker_end(
    struct shardlet *shard, struct fake_worker *worker, struct talk *talk)
{
    if (talk->peer >= 0)
        close(talk->peer);
    shardlet_turn(shard);
    cr_expect_eq(shard->ctx.open, 0u);
    shardlet_deinit(shard);
    fake_worker_end(worker);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

/* The next frame for the worker that is no PING: its type, 0: there is none. */
static inline unsigned http_worker_next(
    struct shardlet *shard, struct fake_worker *worker, struct frame *ret_frame)
{
    unsigned type;
    shardlet_turn(shard);
    do
        type = fake_worker_next(worker, ret_frame);
    while (type == FRAME_PING);
    return type;
}

/* Answers with 200. headers: JSON members of the result behind its status, with the comma. */
static inline void http_worker_respond(struct fake_worker *worker, struct talk *talk, uint64_t call,
    unsigned flags, const char *headers)
{
    char text[512];
    snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":200%s}}",
        headers);
    fake_worker_send(worker, FRAME_RESPONSE, flags, call, text);
    say(talk, SPAN(""));
}
