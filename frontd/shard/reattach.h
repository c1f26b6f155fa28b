#pragma once

/* A shard without a supervisor serves on, and looks for the one that is started in its place. */

#include <sys/types.h>
#include <uv.h>

#include "common/base.h"

struct report;

struct report_ops {
    /* Reports this shard on a socket to a new supervisor. 0 or -errno. */
    int (*report)(struct report *report, int sock);
    /* It is on descriptor CTL_FD now. */
    void (*found)(struct report *report);
    /* There is none, or SIGTERM has come. */
    void (*gave_up)(struct report *report);
};

struct report {
    const struct report_ops *ops;
    const char *run_dir;
    uv_timer_t timer;
    uv_signal_t terminate;
    uint64_t since; /* ms: the last supervisor went */
    uid_t uid;      /* of the supervisor that has started this shard: no other user's is believed */
    bool open;
};

/* control: the socket to the supervisor that has started this shard; borrowed. */
void report_init(struct report *report, uv_loop_t *loop, int control);

/* The supervisor is gone. run_dir: borrowed. */
void report_start(struct report *report, const struct report_ops *ops, const char *run_dir);

/* For the end of the loop; accepts one that was never set up. */
void report_close(struct report *report);
