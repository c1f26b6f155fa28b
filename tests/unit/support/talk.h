#pragma once

/* A client of a shardlet with the other end of its connection, and what it was answered. */

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/support/shardlet.h"

struct talk {
    struct shardlet *shard;
    struct client *client;
    int peer;
    char out[4096];
    size_t n; /* bytes of `out` */
};

/* Sends these bytes, which may be none, lets the shardlet turn, and gathers what it answers. */
static inline void say(struct talk *talk, struct span bytes)
{
    if (bytes.n > 0)
        cr_assert_eq(write(talk->peer, bytes.p, bytes.n), (ssize_t)bytes.n);
    shardlet_turn(talk->shard);
    shardlet_read(talk->peer, talk->out, sizeof(talk->out), &talk->n);
}

/* A client on that listener, which has sent nothing yet. */
static inline struct talk talk_open(struct shardlet *shard, const char *listener)
{
    struct talk talk = {.shard = shard};
    talk.client = shardlet_client(shard, listener, &talk.peer);
    return talk;
}

static inline bool has(const struct talk *talk, const char *text)
{
    return memmem(talk->out, talk->n, text, strlen(text)) != NULL;
}
