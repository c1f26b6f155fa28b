#pragma once

/*
 * Takes the reports of shards that the record says were started, and believes them nothing: a shard
 * may have been taken over by an attacker. From a report come a control socket, and descriptors
 * that are what the record says they are; all else is closed, by a process that may wait for it
 * (discard.h). Keys of session tickets come, too, which each shard knows anyway: one that lies can
 * have old tickets refused, and its own keys used until the next ones are due.
 */

#include "frontd/supervisor/record.h"

enum { REPORTS_MAX = FRONT_GENERATIONS * CONF_SHARDS_MAX };

/* A shard of the record that is alive. */
struct reporter {
    const struct record_process *process;
    size_t generation; /* in the record */
    uint32_t shard;
    int pidfd;       /* -1: it has ended */
    int sock;        /* its connection; -1: none */
    int share;       /* the shared memory, as it is in the record; -1 */
    int *sockets;    /* listening sockets, each of them in the record */
    size_t nsockets; /* at most as many as the record has */
    unsigned messages;
    unsigned connections;
    bool complete; /* all that it has to say has come */
    bool failed;   /* it has connected too often, and is heard no more */
    bool killed;
};

struct reports {
    const struct record *record;
    struct reporter all[REPORTS_MAX];
    size_t count;
    /* Keys of session tickets: those of which the newest was made last; the first that came, of
     * those that are as new. secret_alloc(); NULL: no shard has any. */
    struct tls_ticket_keys *tickets;
};

/* Which of the record's processes are alive. reports: zeroed. */
void reports_find(struct reports *reports, const struct record *record);

/*
 * Listens until all that are alive have reported, have ended, or have failed to, but for a few
 * seconds at most. listener: borrowed.
 */
void reports_collect(struct reports *reports, int listener);

/* Kills a process; what it has reported does not count. */
void reports_kill(struct reporter *reporter);

/*
 * Waits, for two seconds at most, until those that were killed have ended. None of them counts as
 * alive.
 */
void reports_wait_killed(struct reports *reports);

/* How many shards of a generation of the record have reported; SIZE_MAX: of all generations. */
size_t reports_count(const struct reports *reports, size_t generation);

/* Closes whatever has not been taken out. */
void reports_deinit(struct reports *reports);

/* For fuzzing: takes what has come on reporter->sock, as reports_collect() does. */
void reports_receive(struct reports *reports, struct reporter *reporter);
