#pragma once

/* The supervisor: listening sockets, shards, signals. It never touches a client's bytes. */

#include "frontd/share.h"
#include "frontd/super/child.h"
#include "frontd/super/listen.h"

struct super {
    uv_loop_t loop;
    struct conf *conf;
    struct share *share;
    struct super_sockets sockets;
    struct child children[CONF_SHARDS_MAX];
    uv_signal_t signals[6];
    uv_timer_t drain_limit;
    int wake_fds[CONF_SHARDS_MAX]; /* eventfds: a sibling says that a slot is free */
    int conf_fd;                   /* the text of the config, for the shards */
    int share_fd;
    int lock_fd; /* run_dir/frontd.pid: one front for each run_dir */
    const char *conf_name;
    uint64_t incarnations; /* shard processes started so far */
    char instance[33];
    bool stopping;
    bool announced; /* "ready" has been logged */
};

/* Runs until told to stop. conf_name: path of the config. Returns the exit status. */
int super_run(const char *conf_name);

/* For child.c: a shard has become ready, or its process is gone while stopping. */
void super_child_ready(struct super *super);
void super_child_gone(struct super *super);
