#pragma once

/* The supervisor: listening sockets, generations of shards, signals. It never touches a client's
 * bytes. */

#include "frontd/supervisor/config_check.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/paths.h"
#include "frontd/supervisor/reload.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/supervisor/sockets/endpoints.h"
#include "frontd/supervisor/sockets/sd_listen.h"
#include "frontd/supervisor/workers/workers.h"

enum { SUPER_GENERATIONS = 2, REASON_MAX = CONFIG_CHECK_TEXT_MAX + 256 };

struct supervisor {
    uv_loop_t loop;
    struct sd_notify sd_notify;
    struct sd_listen sd_listen;
    struct endpoints endpoints;
    struct endpoints endpoints_before; /* the replacement in progress */
    /* Those that live: [0] serves (or is the first, starting), [1] is about to, or leaves. */
    struct generation *generations[SUPER_GENERATIONS];
    struct reload reload;
    struct config_check check;
    struct workers workers; /* workers of ours */
    uv_signal_t signals[7];
    uv_timer_t deadline;       /* of the reload; while stopping, the drain limit */
    uv_timer_t look;           /* whether the shards live */
    uint64_t looked_at;        /* ms */
    int wake_fds[SHARE_SEATS]; /* eventfds, by which a sibling says that a slot is free; -1: none */
    int run_dir_fd;            /* run_dir, looked at when it was opened; -1: not open */
    int lock_fd;               /* run_dir/frontd.pid: one front for each run_dir; -1: none yet */
    int alive_fd;              /* for a program before, which wants one in the state; else -1 */
    struct paths paths;        /* of the binary on disk, and of the config */
    const char *conf_name;     /* as it was given, until it has been read; then as in paths */
    uint64_t incarnations;     /* shard processes started so far */
    uint64_t last_generation;
    uint64_t connections_each; /* that the descriptor limit allows a shard */
    uint64_t asked_at;         /* ms: the reload in progress began */
    char instance[33];
    uint8_t conn_key[IDS_KEY_SIZE]; /* of connection ids, for all shards of the instance; secret */
    char reason[REASON_MAX];        /* why the last reload came to nothing; "": it did not */
    bool loop_open;                 /* the loop and its handles are there */
    bool execute;   /* the loop has stopped so that this process becomes another program */
    bool announced; /* "ready" has been logged */
    bool at_once;   /* it stops, and waits for nobody */
};

/*
 * Runs until told to stop. argv: of main(). conf_name: path of the config. state_fd: what the
 * program left that executed this one in its place; -1: nobody did. Returns the exit status.
 */
int supervisor_run(char **argv, const char *conf_name, int state_fd);

/* For generation.c */

/* A shard is ready. */
void supervisor_shard_ready(struct supervisor *supervisor, struct generation *generation);

/* A shard has ended, and is not started again. */
void supervisor_shard_gone(struct supervisor *supervisor, struct generation *generation);
