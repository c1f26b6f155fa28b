#include "frontd/ipc/metric_sums.h"

#include <string.h>

#include "frontd/ipc/shm_layout.h"

static void add(const _Atomic uint64_t *words, size_t from, size_t to, struct metric_sums *sums)
{
    for (size_t i = from; i < to; i++)
        sums->words[i] += atomic_load_explicit(&words[i], memory_order_relaxed);
}

bool metric_sum(
    const struct share *share, enum metric_kind kind, unsigned row, struct metric_sums *ret_sums)
{
    const _Atomic uint64_t *seats[SHARE_SEATS];
    size_t n = metric_words(kind);
    unsigned count = 0;
    for (unsigned i = 0; i < SHARE_SEATS; i++) {
        const _Atomic uint64_t *words = metric_row_of(share, i, kind, row);
        if (words != NULL)
            seats[count++] = words;
    }
    memset(ret_sums->words, 0, n * sizeof(uint64_t));
    for (unsigned i = 0; i < count; i++)
        add(seats[i], 1, n, ret_sums);
    /* What comes first in a table is counted first and read last. A seat that has begun meanwhile
     * has nothing in the rest. */
    atomic_thread_fence(memory_order_acquire);
    for (unsigned i = 0; i < SHARE_SEATS; i++) {
        const _Atomic uint64_t *words = metric_row_of(share, i, kind, row);
        if (words != NULL)
            add(words, 0, 1, ret_sums);
    }
    return count > 0;
}

bool metric_sum_seat(const struct share *share, unsigned seat, enum metric_kind kind, unsigned row,
    struct metric_sums *ret_sums)
{
    const _Atomic uint64_t *words = metric_row_of(share, seat, kind, row);
    size_t n = metric_words(kind);
    memset(ret_sums->words, 0, n * sizeof(uint64_t));
    if (words == NULL)
        return false;
    add(words, 1, n, ret_sums);
    atomic_thread_fence(memory_order_acquire);
    add(words, 0, 1, ret_sums);
    return true;
}

unsigned metric_rows_used(const struct share *share, enum metric_kind kind)
{
    unsigned n = 0;
    for (unsigned word = 0; word < METRIC_ROWS_MAX / 64; word++) {
        uint64_t used = 0;
        for (unsigned seat = 0; seat < SHARE_SEATS; seat++) {
            uint64_t of = atomic_load_explicit(
                &share->memory->metrics[seat].used[kind][word], memory_order_relaxed);
            used |= of;
            n += kind == METRIC_KIND_shard && (of & 1);
        }
        if (kind != METRIC_KIND_shard)
            n += (unsigned)__builtin_popcountll(used);
    }
    return n;
}

unsigned metric_shards(const struct share *share)
{
    unsigned n = 0;
    for (unsigned seat = 0; seat <= SHARE_SEAT_LAST; seat++) {
        const _Atomic uint64_t *words = metric_row_of(share, seat, METRIC_KIND_front, 0);
        n += words != NULL &&
             atomic_load_explicit(
                 &words[offsetof(struct front_words, incarnation) / 8], memory_order_relaxed) != 0;
    }
    return n;
}

uint64_t metric_total(const struct metric_sums *sums, const struct metric *metric)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < metric->n; i++)
        total += sums->words[metric->at + i];
    return total;
}

uint64_t metric_quantile(const uint64_t *words, double part)
{
    uint64_t count = 0;
    for (unsigned i = 0; i <= METRIC_BOUNDS; i++)
        count += words[1 + i];
    if (count == 0)
        return UINT64_MAX;
    double rank = part * (double)count;
    double below = 0;
    for (unsigned i = 0; i < METRIC_BOUNDS; i++) {
        double here = (double)words[1 + i];
        if (here > 0 && below + here >= rank) {
            uint64_t from = i == 0 ? 0 : metric_bounds[i - 1];
            return from + (uint64_t)((double)(metric_bounds[i] - from) * (rank - below) / here);
        }
        below += here;
    }
    return metric_bounds[METRIC_BOUNDS - 1];
}

struct metric_totals metric_totals(const struct share *share)
{
    struct metric_totals totals = {0};
    struct metric_sums sums;
    size_t words = sizeof(struct listener_words) / sizeof(uint64_t);
    CHECK(words <= METRIC_WORDS_MAX);
    for (unsigned i = 0; i < METRIC_ROWS_listener; i++) {
        if (!metric_sum(share, METRIC_KIND_listener, i, &sums))
            continue;
        totals.accepted += sums.words[offsetof(struct listener_words, accepted) / 8];
        totals.handed_over += sums.words[offsetof(struct listener_words, handed_over) / 8];
        for (unsigned k = 0; k < METRIC_SIZE_PROTOCOL * METRIC_SIZE_REASON; k++)
            totals.closed += sums.words[offsetof(struct listener_words, closed) / 8 + k];
    }
    for (unsigned i = 0; i < METRIC_ROWS_route; i++) {
        if (metric_sum(share, METRIC_KIND_route, i, &sums))
            totals.requests += sums.words[offsetof(struct route_words, received) / 8];
    }
    for (unsigned i = 0; i < METRIC_ROWS_pair; i++) {
        if (metric_sum(share, METRIC_KIND_pair, i, &sums))
            totals.calls += sums.words[offsetof(struct pair_words, started) / 8];
    }
    if (metric_sum(share, METRIC_KIND_front, 0, &sums)) {
        totals.dropped = sums.words[offsetof(struct front_words, dropped) / 8];
        totals.unheard = sums.words[offsetof(struct front_words, unheard) / 8];
    }
    return totals;
}
