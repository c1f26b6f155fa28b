#pragma once

/*
 * Which workers are left out since they have failed repeatedly, over all shards, and over reloads:
 * of the address, not of the process, since a worker that exits in every call is a new process
 * each time. An entry that no shard has had a use for in SHARE_HEALTH_KEPT_MS is another
 * address's.
 *
 * Any process may write anything here. A worker is left out for SHARE_HEALTH_LONGEST_MS at most
 * whatever is written, and each shard sees by itself that it is not more than half of a pool.
 */

#include "frontd/ipc/shm.h"

enum {
    SHARE_HEALTH_KEPT_MS = 10 * 60 * 1000,
    SHARE_HEALTH_LONGEST_MS = 5 * 60 * 1000, /* for which a worker is left out */
};

enum share_health {
    SHARE_HEALTH_WELL,
    SHARE_HEALTH_OUT, /* it is left out, or one call is tried */
    SHARE_HEALTH_TRY, /* its time is over: one call is to be tried */
};

/* The entry of an address. Returns its number, or -1: there is no room. now: ms, here and below. */
int share_health_get(struct share *share, const char *address, uint64_t now);

/* Its entry is of use still; to be called more often than SHARE_HEALTH_KEPT_MS. */
void share_health_touch(struct share *share, int entry, uint64_t now);

enum share_health share_health_state(const struct share *share, int entry, uint64_t now);

/* Whether it has failed since its last success, or is left out. */
bool share_health_suspect(const struct share *share, int entry);

/* One failure more in a row. Returns how many there are. */
uint32_t share_health_fail(struct share *share, int entry);

/* Whether the loss of this process is news; false where it was counted a moment ago. */
bool share_health_note_lost(struct share *share, int entry, uint64_t now, int64_t pid);

/* Sets the number of failures in a row, of a worker that is not left out. */
void share_health_set_failed(struct share *share, int entry, uint32_t failed);

/*
 * Leaves it out: for `first` ms, or twice as long as before where it came back less than
 * SHARE_HEALTH_LONGEST_MS ago. trial: its trial has failed; else nothing is done where it is left
 * out already. Returns for how many ms; 0: nothing was done.
 */
uint64_t share_health_eject(
    struct share *share, int entry, uint64_t now, uint64_t first, bool trial);

/*
 * Takes the one call that is tried, which ends by `until`, ms. Returns false where another shard
 * has taken it.
 */
bool share_health_try(struct share *share, int entry, uint64_t now, uint64_t until);

/* The call that was tried has told nothing: another one may be. */
void share_health_release(struct share *share, int entry);

/* It is not left out any more, and has had that many failures in a row. */
void share_health_back(struct share *share, int entry, uint64_t now, uint32_t failed);

/* A number that has changed when any worker was left out or has come back. */
uint32_t share_health_changes(const struct share *share);

/* For people: whether the worker at an address is left out; *ret_until: until when, ms. */
bool share_health_find(
    const struct share *share, const char *address, uint64_t now, uint64_t *ret_until);
