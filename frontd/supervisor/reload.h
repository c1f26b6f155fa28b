#pragma once

/*
 * The generation machine: what happens next when shards are to be replaced. Pure: events in,
 * actions out; time is an argument. At most two generations of shards live at any time; a signal
 * that comes while one is being replaced is remembered once.
 */

#include "common/base.h"

enum machine_state {
    MACHINE_STEADY,
    MACHINE_CHECKING, /* a child of the program to come looks at the config */
    MACHINE_STARTING, /* new shards start; the old ones serve */
    MACHINE_LEAVING,  /* the new ones serve; the old ones give them their clients */
    MACHINE_ENDING,   /* it came to nothing; what was started for it is about to end */
    MACHINE_STOPPING,
};

enum machine_event {
    MACHINE_RELOAD,   /* SIGHUP: a new config */
    MACHINE_UPGRADE,  /* SIGUSR2: a new binary, and config */
    MACHINE_CHECKED,  /* binary and config are all right */
    MACHINE_REFUSED,  /* they are not; or the new generation could not be made */
    MACHINE_EXECUTED, /* this is the new binary; the state is what the old one left */
    MACHINE_READY,    /* all new shards accept */
    MACHINE_FAILED,   /* a new shard has ended before all were ready */
    MACHINE_GONE,     /* LEAVING: the last old shard has ended; ENDING: what was killed has */
    MACHINE_STOP,     /* SIGTERM */
    MACHINE_TIME,     /* machine.deadline has passed */
    MACHINE_EVENTS,
};

enum machine_action {
    MACHINE_DO_CHECK = 1,     /* start the check */
    MACHINE_DO_END_CHECK = 2, /* kill it; MACHINE_GONE follows */
    MACHINE_DO_EXECUTE = 4,   /* become the new binary; MACHINE_REFUSED where that fails */
    MACHINE_DO_START = 8,     /* start new shards; MACHINE_REFUSED where that fails */
    MACHINE_DO_ABORT = 16,    /* kill the new shards; MACHINE_GONE follows */
    MACHINE_DO_LEAVE = 32,    /* the new ones serve from now on, the old ones leave */
    MACHINE_DO_RETIRE = 64,   /* kill what is left of the old ones */
    MACHINE_DO_FINISH = 128,  /* say that the replacement is over */
    MACHINE_DO_STOP = 256,    /* tell all shards to finish */
};

enum {
    MACHINE_CHECK_MS = 10000,
    MACHINE_START_MS = 10000,
    MACHINE_GRACE_MS = 2000, /* what old shards get beyond the drain limit */
};

struct machine {
    enum machine_state state;
    bool upgrade;               /* CHECKING: what for */
    enum machine_event pending; /* RELOAD or UPGRADE: came meanwhile; MACHINE_EVENTS: none */
    uint64_t deadline;          /* ms; UINT64_MAX: none */
    uint64_t drain;             /* ms: how long calls of the old generation may take */
};

void machine_init(struct machine *machine);

/*
 * Shards were found that serve on without this supervisor: a reload is due, and old ones that leave
 * (`leaving`) end first.
 */
void machine_found(struct machine *machine, bool leaving, uint64_t now);

/* What to do now: enum machine_action, ored; in the order of their values. now: ms. */
unsigned machine_step(struct machine *machine, enum machine_event event, uint64_t now);
