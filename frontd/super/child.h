#pragma once

/* A shard process as its supervisor sees it. */

#include <sys/types.h>
#include <uv.h>

#include "frontd/conf.h"

struct super;

enum child_state {
    CHILD_DOWN,     /* no process; restarts when its timer says so */
    CHILD_STARTING, /* running, not ready yet */
    CHILD_READY,    /* accepting */
};

struct child {
    struct super *super;
    uv_poll_t control;
    uv_timer_t restart;
    int sock; /* the control socket */
    pid_t pid;
    uint32_t shard;
    enum child_state state;
    bool control_open;
    uint64_t started;  /* ms */
    unsigned failures; /* in a row: deaths soon after the start */
};

void child_init(struct child *child, struct super *super, uint32_t shard);

/* Starts the process and sends it what it needs. A failure is logged and tried again later. */
void child_start(struct child *child);

/* Its process has ended (as waitpid() said): takes back what it held and starts it anew. */
void child_ended(struct child *child, int status);

/* Asks it to finish its calls and exit. */
void child_drain(struct child *child);

/* Closes its handles, for the end of the loop. */
void child_close(struct child *child);
