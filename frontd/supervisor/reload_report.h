#pragma once

/*
 * What the last reload has done, or the one in progress does: for people who ask, and for what
 * waits until it is over.
 */

#include "common/list.h"
#include "proto/json_write.h"

enum { RELOAD_REPORT_REASON_MAX = 1536 };

enum reload_outcome {
    RELOAD_OUTCOME_NONE, /* there was no reload yet */
    RELOAD_OUTCOME_PENDING,
    RELOAD_OUTCOME_OK,
    RELOAD_OUTCOME_FAILED,
};

#define RELOAD_REPORT_UNKNOWN UINT64_MAX

struct reload_report {
    uint64_t number; /* of the reloads of this front, those of programs before it too */
    enum reload_outcome outcome;
    bool upgrade;        /* to the program on disk */
    uint64_t at;         /* ms since 1970: when it began */
    uint64_t took;       /* ms, once it is over */
    uint64_t generation; /* that serves by it; 0: none does yet */
    uint64_t open;  /* connections of the old shards when the new ones began to serve, or UNKNOWN */
    uint64_t moved; /* of these, to the new shards */
    uint64_t moved_before;                 /* what was counted as moved until then */
    char reason[RELOAD_REPORT_REASON_MAX]; /* why it has failed */
    struct list watchers;
};

/* Something that waits for the end of a reload. */
struct reload_watcher {
    struct list node;
    uint64_t number; /* the reload that is meant; one that is over counts, too */
    /* It has got on; or is over, and the watcher is in no list any more. */
    void (*progress)(struct reload_watcher *watcher, const struct reload_report *report);
    void (*over)(struct reload_watcher *watcher, const struct reload_report *report);
};

void reload_report_init(struct reload_report *report);

/* A reload begins. at: ms since 1970. */
void reload_report_begin(struct reload_report *report, bool upgrade, uint64_t at);

/* The new shards serve. open: connections of the old ones; moved_before: of all, until now. */
void reload_report_serves(
    struct reload_report *report, uint64_t generation, uint64_t open, uint64_t moved_before);

/* It has got on: watchers are told. moved: what has been counted as moved until now. */
void reload_report_progress(struct reload_report *report, uint64_t moved);

/* It is over. reason: why it came to nothing; "" where it did not. Watchers are told. */
void reload_report_end(struct reload_report *report, uint64_t took, const char *reason);

/* The front ends: there is no reload any more, and those that wait are told so. */
void reload_report_stop(struct reload_report *report);

/*
 * Tells a watcher when the reload of its number is over; at once, where it is. To be taken out with
 * list_remove().
 */
void reload_report_watch(struct reload_report *report, struct reload_watcher *watcher);

/* "ok", "failed", "pending", "none". */
const char *reload_report_outcome(const struct reload_report *report);

/* A member "reload" of the supervisor's state: what a program that is executed has to know of it.
 */
void reload_report_save(const struct reload_report *report, struct json_writer *out);
void reload_report_restore(struct reload_report *report, struct span state);
