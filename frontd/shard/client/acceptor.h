#pragma once

/* The listening sockets of a shard: accepting, and pausing at every limit that there is. */

#include "common/log.h"
#include "frontd/shard/client/client.h"

struct listener {
    struct acceptor *acceptor;
    const struct conf_listener *conf;
    uv_poll_t poll;
    int fd;
};

/* All listeners of a shard: they pause and go on together. */
struct acceptor {
    struct ctx *ctx;
    struct listener *listeners;
    size_t count;
    size_t room;
    struct list clients;      /* open, and neither in ctx->unused nor in ctx->idle */
    struct wheel_timer timer; /* while paused: when to look again */
    uint64_t most;            /* connections that the descriptor limit allows */
    uint64_t said_at;         /* ms: the last log line which says that accepting pauses */
    struct log_limit evicted; /* the log: unused connections are closed for others */
    bool paused;
    bool closed;
};

/* room: how many listening sockets there will be. Returns 0 or -ENOMEM. */
int acceptor_init(struct acceptor *acceptor, struct ctx *ctx, size_t room);
void acceptor_deinit(struct acceptor *acceptor);

/* Adds a listening socket. fd: consumed. Returns 0 or -errno. */
int acceptor_add(struct acceptor *acceptor, const struct conf_listener *conf, int fd);

/* Starts to accept. */
void acceptor_open(struct acceptor *acceptor);

/* Accepts what waits on that listener's sockets now: no other process will. */
void acceptor_accept_rest(struct acceptor *acceptor, const struct conf_listener *conf);

/*
 * Closes up to `n` connections that have never been used, the oldest first, for others that are to
 * come. Returns how many: no more of them are old enough. Not while the poller is busy.
 */
size_t acceptor_make_room(struct acceptor *acceptor, size_t n);

/* Closes an unused connection where limits.connections is reached: a sibling may need the room. */
void acceptor_wake(struct acceptor *acceptor);

/* Accepts no more and closes the sockets. */
void acceptor_close(struct acceptor *acceptor);

/* The acceptor's wheel timer has expired. */
void acceptor_timeout(struct wheel_timer *timer);
