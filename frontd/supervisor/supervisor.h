#pragma once

/* The supervisor: listening sockets, generations of shards, signals. It never touches a client's
 * bytes. */

#include "frontd/supervisor/config_check.h"
#include "frontd/supervisor/front.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/reload.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/supervisor/sockets/sd_listen.h"
#include "frontd/supervisor/workers/workers.h"

enum { SUPERVISOR_REASON_MAX = CONFIG_CHECK_TEXT_MAX + 256 };

struct supervisor {
    struct front front;
    struct sd_notify sd_notify;
    struct sd_listen sd_listen;
    struct endpoints endpoints_before; /* the replacement in progress */
    struct reload reload;
    struct config_check check;
    struct workers workers; /* workers of ours */
    uv_signal_t signals[7];
    uv_timer_t deadline;                /* of the reload; while stopping, the drain limit */
    uv_timer_t look;                    /* whether the shards live */
    uint64_t looked_at;                 /* ms */
    char reason[SUPERVISOR_REASON_MAX]; /* why the last reload came to nothing; "": it did not */
    bool loop_open;                     /* the loop and its handles are there */
    bool execute;   /* the loop has stopped so that this process becomes another program */
    bool announced; /* "ready" has been logged */
    bool at_once;   /* it stops, and waits for nobody */
};

/*
 * Runs until told to stop. argv: of main(). conf_name: path of the config. state_fd: what the
 * program left that executed this one in its place; -1: nobody did. Returns the exit status.
 */
int supervisor_run(char **argv, const char *conf_name, int state_fd);
