#pragma once

/*
 * The pushes of late, of workers on any shard: kept while connections move from shard to shard, so
 * that a connection which was on its way when a push came by is given it afterwards. Each push has
 * a position in the stream of pushes of the shard on whose channel it came; all shards hear that
 * stream in order.
 */

#include "common/list.h"
#include "frontd/ipc/shm.h"
#include "proto/frame.h"

struct ctx;

/* How far a shard's stream of pushes has been heard. */
struct position {
    uint64_t incarnation; /* of that shard process, which count up; 0: none is known */
    uint64_t seq;         /* of the last push that was heard */
};

/* Of all shards, by their seats. */
struct positions {
    struct position of[SHARE_SEATS];
};

static inline bool position_before(struct position a, struct position b)
{
    return a.incarnation < b.incarnation || (a.incarnation == b.incarnation && a.seq < b.seq);
}

/* What keeps the journal going: connections that are sent, or those that are received. */
enum journal_user { JOURNAL_SENDER = 1, JOURNAL_RECEIVER = 2 };

enum {
    /* Bytes that are kept: past it workers that only publish are better not read for a moment, */
    JOURNAL_MAX = 32 * 1024 * 1024,
    /* and past it the oldest pushes are dropped, since the hand-over makes no progress. */
    JOURNAL_MOST = 64 * 1024 * 1024,
};

struct journal {
    struct list entries; /* oldest first */
    size_t size;         /* bytes of them */
    uint64_t dropped;    /* since journal_dropped() was last called */
    unsigned users;      /* enum journal_user, ored */
};

void journal_init(struct journal *journal);

/* Drops what is kept. */
void journal_deinit(struct journal *journal);

/* Pushes are kept for as long as one of the two users has it on; then what is kept is dropped. */
void journal_record(struct journal *journal, enum journal_user user, bool on);

/*
 * Keeps a copy of a push (its parts in one piece) while recording. realm: that of the worker.
 * Returns 0 or -ENOMEM.
 */
int journal_add(struct journal *journal, unsigned seat, struct position position, uint64_t realm,
    const struct frame *frame);

/* Drops pushes that are not after these positions: no connection that is received needs them. None
 * while connections are sent: those may come back. */
void journal_trim(struct journal *journal, const struct positions *heard);

/* How many pushes were dropped for JOURNAL_MOST since this was last asked. */
uint64_t journal_dropped(struct journal *journal);

/* Bytes that are kept. */
static inline size_t journal_size(const struct journal *journal)
{
    return journal->size;
}

/* Gives every push that is kept and after these positions to `replay`, in order. */
void journal_replay(const struct journal *journal, const struct positions *heard,
    void (*replay)(struct ctx *ctx, uint64_t realm, const struct frame *frame), struct ctx *ctx);
