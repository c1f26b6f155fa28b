#pragma once

/*
 * The supervisor: listening sockets, generations of shards, signals. It never touches a client's
 * bytes.
 */

#include "frontd/supervisor/admins.h"
#include "frontd/supervisor/asks.h"
#include "frontd/supervisor/config_check.h"
#include "frontd/supervisor/control/control.h"
#include "frontd/supervisor/front.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/reload.h"
#include "frontd/supervisor/rotation.h"
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
    struct workers workers;   /* workers of ours */
    struct control control;   /* for frontctl */
    struct asks asks;         /* what shards are being asked */
    struct admins admins;     /* the admin process */
    struct rotation rotation; /* of the keys of session tickets */
    uv_signal_t signals[7];
    uv_timer_t deadline;                /* of the reload; while stopping, the drain limit */
    uv_timer_t look;                    /* whether the shards live */
    uint64_t looked_at;                 /* ms */
    char reason[SUPERVISOR_REASON_MAX]; /* why the last reload came to nothing; "": it did not */
    bool loop_open;                     /* the loop and its handles are there */
    bool execute;   /* the loop has stopped so that this process becomes another program */
    bool announced; /* "ready" has been logged */
    bool at_once;   /* it stops, and waits for no shard and no worker to finish */
};

/* Nothing runs yet. supervisor: zeroed. */
void supervisor_init(struct supervisor *supervisor);

/* An event of the reload: does what is to be done now. */
void supervisor_step(struct supervisor *supervisor, enum reload_event event);

/* Tells those that wait for a reload how far it is; to be called now and then. */
void supervisor_tell_progress(struct supervisor *supervisor);

/*
 * Shards were found, of a supervisor that was killed: they serve on, and a reload then makes shards
 * of this program and this config.
 */
void supervisor_go_on(struct supervisor *supervisor);

/* The process that checks the config has ended. status: as waitpid() said. */
void supervisor_check_ended(struct supervisor *supervisor, int status);

/* A child has ended: whether it was an admin process. status: as waitpid() said. */
bool supervisor_admin_ended(struct supervisor *supervisor, pid_t pid, int status);

/* Kills all shards and workers; the loop ends when they have ended. */
void supervisor_stop_at_once(struct supervisor *supervisor);

/*
 * Says in the log, and to the service manager later, why the reload in progress comes to nothing.
 */
void supervisor_blame(struct supervisor *supervisor, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Frees a generation of which all processes have ended. */
void supervisor_forget(struct supervisor *supervisor, struct generation *generation);

/*
 * Closes what keeps the loop. No signal has a handler from here on; one more would end this
 * process.
 */
void supervisor_close_handles(struct supervisor *supervisor);
