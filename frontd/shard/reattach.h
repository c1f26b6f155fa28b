#pragma once

/* A shard without a supervisor serves on, and looks for the one that is started in its place. */

#include <sys/types.h>
#include <uv.h>

#include "common/base.h"

struct reattach;

struct reattach_ops {
    /* Reports this shard on a socket to a new supervisor. 0 or -errno. */
    int (*report)(struct reattach *reattach, int sock);
    /* It is on descriptor CTL_FD now. */
    void (*found)(struct reattach *reattach);
    /* There is none, or SIGTERM has come. */
    void (*gave_up)(struct reattach *reattach);
};

struct reattach {
    const struct reattach_ops *ops;
    const char *run_dir;
    uv_timer_t timer;
    uv_signal_t terminate;
    uint64_t since; /* ms: the last supervisor went */
    uid_t uid;      /* of the supervisor that has started this shard: no other user's is believed */
    bool open;
};

/* control: the socket to the supervisor that has started this shard; borrowed. */
void reattach_init(struct reattach *reattach, uv_loop_t *loop, int control);

/* The supervisor is gone. run_dir: borrowed. */
void reattach_start(struct reattach *reattach, const struct reattach_ops *ops, const char *run_dir);

/* For the end of the loop; accepts one that was never set up. */
void reattach_close(struct reattach *reattach);
