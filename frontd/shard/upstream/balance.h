#pragma once

/*
 * Which worker of a pool is to get a call: numbers in, a choice out. No sockets, no shared memory,
 * no clock; randomness is an argument. Workers are numbers below `n`, in no order of their own.
 *
 * Without a hash two workers are drawn at random, and the less loaded of them is asked first; where
 * it does not take the call, the others are, in the order of their numbers from there on. So the
 * load is as even as if all of them were looked at, nearly, at the cost of two. The caller reads a
 * load, and asks a worker, only where it matters:
 *
 *     struct balance_pair pair = balance_draw(&random, n);
 *     struct balance_order order = balance_order(n, pair, load_of(pair.one), load_of(pair.other));
 *     while ((at = balance_next(&order)) != BALANCE_NONE)
 *         ask(at);
 *
 * With a hash each call has one worker, the best for its hash of those that take it. With bounded
 * load it is the best of those that have less than balance_bound() calls in progress.
 */

#include "common/base.h"

#define BALANCE_NONE UINT32_MAX /* no worker */

struct balance_pair {
    uint32_t one;
    uint32_t other;
};

struct balance_order {
    uint32_t n;
    uint32_t first;
    uint32_t asked; /* how many have been given out by balance_next() */
};

/* Two different workers of n > 0, at random; of one worker, that one twice. random: never 0. */
struct balance_pair balance_draw(uint64_t *random, uint32_t n);

/* A number below the sum of all weights, to choose one of two by: who has how much of it is likely
 * to be drawn so often. random: never 0. total: not 0. */
uint32_t balance_ticket(uint64_t *random, uint32_t total);

/* A worker that was drawn: calls in progress, and how many it is to have for one of another's. */
struct balance_load {
    uint32_t load;
    uint32_t weight; /* not 0; the same of both where there are no weights */
};

/* The order in which workers are asked: first the one of the two with less load for its weight. */
struct balance_order balance_order(
    uint32_t n, struct balance_pair pair, struct balance_load one, struct balance_load other);

/* The next worker to be asked, or BALANCE_NONE when each has been, once. */
uint32_t balance_next(struct balance_order *order);

enum { BALANCE_WHOLE = 10000 /* the part of its calls that a worker gets which is warm */ };

/*
 * The part of its calls that a worker gets which is there for `age`: 10 % at first, and all of them
 * after `ramp`, in the same unit; 0: at once.
 */
static inline uint32_t balance_part(uint64_t age, uint64_t ramp)
{
    if (age >= ramp)
        return BALANCE_WHOLE;
    return MAX((uint32_t)(age * BALANCE_WHOLE / ramp), (uint32_t)BALANCE_WHOLE / 10);
}

/*
 * Whether such a worker may have the next call. most: the greatest part of any worker, not 0; who
 * has it may have every call. random: never 0.
 */
bool balance_may_have(uint64_t *random, uint32_t part, uint32_t most);

/* Whether a worker with that many calls in progress may have another. concurrency: 0: no limit. */
static inline bool balance_has_slot(uint32_t load, uint32_t concurrency)
{
    return concurrency == 0 || load < concurrency;
}

/*
 * Rendezvous hashing: of the workers that are offered, the one with the greatest score for the
 * call's hash. When a worker comes or goes, only its own share of the hashes moves.
 */
struct balance_hash {
    uint64_t hash;
    uint64_t score; /* of the best so far */
    uint32_t at;    /* the best so far, or BALANCE_NONE */
};

static inline struct balance_hash balance_hash(uint64_t hash)
{
    return (struct balance_hash){.hash = hash, .at = BALANCE_NONE};
}

/*
 * rank: of the worker, the same in all shards: a hash of its address. weight: it has so many
 * chances, and so often as many hashes as one with a single one.
 */
void balance_offer(struct balance_hash *best, uint32_t at, uint64_t rank, uint32_t weight);

/*
 * Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2018): a worker with that
 * many calls in progress gets no other one. It is 1.25 times the mean, the new call counted,
 * rounded up: the n > 0 workers together have room for more than `total` calls, so that there is
 * always a worker below it. With weights the mean is that for the worker's weight, of all `weights`
 * together; without, each has 1 of n.
 */
static inline uint64_t balance_bound(uint64_t total, uint32_t weight, uint32_t weights)
{
    return (5 * (total + 1) * weight + 4 * (uint64_t)weights - 1) / (4 * (uint64_t)weights);
}
