#pragma once

/*
 * How large the answers of each kind of call have been lately, so that no more calls of a
 * connection are started than its answers have room for. Pure: time is an argument.
 *
 * A kind is a pool and a method (or path), hashed into a table of fixed size; two that share a
 * place are one kind. The size is a maximum that decays with each smaller answer.
 *
 * A kind that has never been answered starts slowly: the first call takes all the room there is,
 * and for each EXPECT_STEP_MS without an answer twice as many may run, up to as many as a
 * connection may have. So a first answer that comes soon is known before others are on their way,
 * and calls that take long are side by side soon.
 */

#include "common/base.h"

enum {
    EXPECT_KINDS = 1024, /* a power of two */
    EXPECT_STEP_MS = 25,
    EXPECT_DECAY = 16,  /* a smaller answer takes away 1/16 of the difference */
    EXPECT_SHARES = 64, /* a slow kind that is not known takes this part of the room, or less */
};

struct expect_kind {
    uint32_t size;  /* bytes; 0: no call has been answered */
    uint32_t since; /* ms, the lower bits: when the first call was started; 0: none has been */
};

/* Zeroed is empty. */
struct expect {
    struct expect_kind kinds[EXPECT_KINDS];
};

/*
 * The place of a kind in the table. name: a method or path, borrowed. seed: random, so that no
 * client can choose names that share a place with another's.
 */
uint16_t expect_kind(uint64_t seed, uint32_t pool, struct span name);

/*
 * What to set aside for the answer to a call of that kind that is started now, in bytes.
 *
 * room: what a connection may have waiting, in bytes. calls: how many it may have in progress.
 * *ret_shrinks: whether the result is a guess that becomes smaller with time: to be asked again.
 */
uint32_t expect_size(struct expect *expect, uint16_t kind, uint32_t room, uint32_t calls,
    uint64_t now, bool *ret_shrinks);

/* Whether an answer of that kind has been seen. */
static inline bool expect_known(const struct expect *expect, uint16_t kind)
{
    return expect->kinds[kind].size > 0;
}

/* An answer of that kind had `n` bytes. */
void expect_answered(struct expect *expect, uint16_t kind, size_t n);

/* An answer of that kind has `n` bytes so far: no smaller one is expected. */
void expect_at_least(struct expect *expect, uint16_t kind, size_t n);
