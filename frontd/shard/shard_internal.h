#pragma once

/* What the files of this folder share: a shard as a process. */

#include "frontd/ipc/control.h"
#include "frontd/shard/client/acceptor.h"
#include "frontd/shard/reattach.h"
#include "frontd/shard/shard_parts.h"

struct shard {
    struct ctx ctx;
    struct parts parts;
    struct conf *conf;
    struct share *share;
    struct ssl_ctx_st *pool_tls[CONF_POOLS_MAX]; /* what workers of pools are dialled with */
    struct pool *pools;
    struct acceptor acceptor;
    uv_poll_t control;
    uv_poll_t wake;
    uv_prepare_t turn_end;
    uv_idle_t more;    /* active: something is left for the next turn */
    uv_timer_t tick;   /* when the wheel is due */
    uv_check_t looked; /* active: it is due, once all sockets have been looked at */
    uv_timer_t drain_limit;
    uv_timer_t beat;  /* tells the supervisor that the loop turns */
    uint64_t tick_at; /* ms: what `tick` is set to; UINT64_MAX: it is not */
    struct ctl_start start;
    int fds[CTL_START_FDS]; /* that came with it */
    struct reattach reattach;
    struct tls_ticket_keys *tickets; /* secret_alloc(); NULL: none have come */
    size_t npools;
    uint32_t holds_seen; /* share_holds() of what is in force here */
    bool started;
    bool has_tls;         /* certificates have come */
    uint64_t reach_until; /* ms: READY waits for pools until then; 0: it does not yet */
    bool opening;         /* RUN has come; READY is said when it is known which workers are there */
    bool opened;          /* OPEN has come */
    bool running;         /* READY has been said */
    bool congested;       /* workers that only publish are not read, since others do not keep up */
    bool left;            /* workers have been told that we go */
    uint64_t alone;       /* ms: since when it has no connection and goes; 0: it has, or does not */
    bool finished;
};
