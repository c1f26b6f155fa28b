#pragma once

/*
 * A reload as a state machine: what happens next when shards are to be replaced. Pure: events in,
 * actions out; time is an argument. At most two generations of shards live at any time; a signal
 * that comes while one is being replaced is remembered once.
 */

#include "common/base.h"

enum reload_state {
    RELOAD_STEADY,
    RELOAD_CHECKING, /* a child of the program to come looks at the config */
    RELOAD_STARTING, /* new shards start; the old ones serve */
    RELOAD_LEAVING,  /* the new ones serve; the old ones give them their clients */
    RELOAD_ENDING,   /* the reload has failed; what was started for it is about to end */
    RELOAD_STOPPING,
};

enum reload_event {
    RELOAD_ON_CONFIG,   /* SIGHUP: a new config */
    RELOAD_ON_UPGRADE,  /* SIGUSR2: a new binary, and config */
    RELOAD_ON_CHECKED,  /* binary and config are all right */
    RELOAD_ON_REFUSED,  /* they are not all right; or the new generation could not be made */
    RELOAD_ON_EXECUTED, /* this is the new binary; the state is what the old one left */
    RELOAD_ON_READY,    /* all new shards accept */
    RELOAD_ON_FAILED,   /* a new shard has ended before all were ready */
    RELOAD_ON_GONE,     /* LEAVING: the last old shard has ended; ENDING: what was killed has */
    RELOAD_ON_STOP,     /* SIGTERM */
    RELOAD_ON_TIME,     /* reload.deadline has passed */
    RELOAD_EVENTS,
};

enum reload_action {
    RELOAD_DO_CHECK = 1,     /* start the check */
    RELOAD_DO_END_CHECK = 2, /* kill it; RELOAD_ON_GONE follows */
    RELOAD_DO_EXECUTE = 4,   /* become the new binary; RELOAD_ON_REFUSED where that fails */
    RELOAD_DO_START = 8,     /* start new shards; RELOAD_ON_REFUSED where that fails */
    RELOAD_DO_ABORT = 16,    /* kill the new shards; RELOAD_ON_GONE follows */
    RELOAD_DO_LEAVE = 32,    /* the new ones serve from now on, the old ones leave */
    RELOAD_DO_RETIRE = 64,   /* kill what is left of the old ones */
    RELOAD_DO_FINISH = 128,  /* say that the replacement is over */
    RELOAD_DO_STOP = 256,    /* tell all shards to finish */
};

enum {
    RELOAD_CHECK_MS = 10000,
    RELOAD_START_MS = 10000,
    RELOAD_GRACE_MS = 2000, /* what old shards get beyond the drain limit */
};

struct reload {
    enum reload_state state;
    bool upgrade;              /* CHECKING: what for */
    enum reload_event pending; /* RELOAD or UPGRADE: came meanwhile; RELOAD_EVENTS: none */
    uint64_t deadline;         /* ms; UINT64_MAX: none */
    uint64_t asked_at;         /* ms: its check began; kept here for the log, and not looked at */
    uint64_t drain;            /* ms: how long calls of the old generation may take */
};

void reload_init(struct reload *reload);

/*
 * Shards were found that serve on without this supervisor: a reload is due, and old ones that leave
 * (`leaving`) end first.
 */
void reload_found(struct reload *reload, bool leaving, uint64_t now);

/* What to do now: enum reload_action, ored; in the order of their values. now: ms. */
unsigned reload_step(struct reload *reload, enum reload_event event, uint64_t now);
