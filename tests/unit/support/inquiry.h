#pragma once

/* The supervisor of a shardlet, as far as it asks questions. */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/ipc/control.h"
#include "frontd/shard/inspect/inspect.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "proto/jsonrpc.h"
#include "tests/unit/support/shardlet.h"

struct inquiry {
    struct shardlet *shard;
    int ends[2];     /* ours, and the shard's */
    uint64_t id;     /* of the last question */
    struct buf text; /* of the last answer, or part of one */
    bool more;
};

static inline void inquiry_open(struct inquiry *inquiry, struct shardlet *shard)
{
    *inquiry = (struct inquiry){.shard = shard};
    cr_assert_eq(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, inquiry->ends), 0);
    shard->parts.inspect.sock = inquiry->ends[1];
}

static inline void inquiry_close(struct inquiry *inquiry)
{
    inspect_forget(&inquiry->shard->parts.inspect);
    buf_deinit(&inquiry->text);
    fdpass_close(inquiry->ends, 2);
}

/* Asks, as a message of the supervisor's does. Returns the question's id. */
static inline uint64_t inquiry_ask(
    struct inquiry *inquiry, enum ctl_question question, const char *params)
{
    struct ctl_message message = {.u.ask = {.id = ++inquiry->id, .question = question}};
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    struct span text = {params, strlen(params)};
    cr_assert_eq(ctl_send_text(inquiry->ends[0], CTL_ASK, &message, text), 0);
    cr_assert_eq(ctl_receive(inquiry->ends[1], &message, fds, &nfds), 0);
    inspect_ask(&inquiry->shard->parts.inspect, &message.u.ask, fds[0]);
    return inquiry->id;
}

/* Takes what the shard has told. Returns the question's id; 0: nothing has come. */
static inline uint64_t inquiry_told(struct inquiry *inquiry)
{
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    buf_deinit(&inquiry->text);
    int r = ctl_receive(inquiry->ends[0], &message, fds, &nfds);
    if (r == -EAGAIN)
        return 0;
    cr_assert_eq(r, 0);
    cr_assert_eq(message.type, CTL_TELL);
    cr_assert_eq(ctl_read_text(fds[0], CTL_TELL_MAX, &inquiry->text), 0);
    fdpass_close(fds, nfds);
    inquiry->more = message.u.tell.more;
    cr_assert_eq(jsonrpc_validate(buf_data(&inquiry->text), buf_len(&inquiry->text)), 0, "%.*s",
        (int)buf_len(&inquiry->text), buf_data(&inquiry->text));
    return message.u.tell.id;
}

/* Asks, and lets the shard turn until it has told. Returns the answer. */
static inline struct span inquiry_answer(
    struct inquiry *inquiry, enum ctl_question question, const char *params)
{
    uint64_t id = inquiry_ask(inquiry, question, params);
    uint64_t told = inquiry_told(inquiry);
    for (int i = 0; told == 0 && i < 10000; i++) {
        shardlet_step(inquiry->shard);
        told = inquiry_told(inquiry);
    }
    cr_assert_eq(told, id);
    cr_assert(!inquiry->more);
    return (struct span){buf_data(&inquiry->text), buf_len(&inquiry->text)};
}

static inline uint64_t number_in(struct span object, const char *key)
{
    return json_read_number(json_read_member(object, key), UINT64_MAX, UINT64_MAX);
}

static inline bool text_is(struct span object, const char *key, const char *text)
{
    struct span value = json_read_member(object, key);
    return json_is_string(value) && json_scan_equals((struct span){value.p + 1, value.n - 2},
                                        (struct span){text, strlen(text)});
}
