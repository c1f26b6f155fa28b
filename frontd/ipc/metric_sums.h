#pragma once

/* Sums of the rows of metrics over all seats. */

#include "frontd/ipc/metrics.h"

/* The words of a row: metric_words() of them are valid. */
struct metric_sums {
    uint64_t words[METRIC_WORDS_MAX];
};

/*
 * Adds up a row over all seats; gauges and what is hidden, too. Returns false, with all 0, where
 * no seat has counted in it. What can only have been counted before something else is not less than
 * that: connections accepted and those closed, requests received and those ended.
 */
bool metric_sum(
    const struct share *share, enum metric_kind kind, unsigned row, struct metric_sums *ret_sums);

/* The words of one seat; the same. */
bool metric_sum_seat(const struct share *share, unsigned seat, enum metric_kind kind, unsigned row,
    struct metric_sums *ret_sums);

/* How many rows of a kind are used: of METRIC_KIND_shard, by how many seats. */
unsigned metric_rows_used(const struct share *share, enum metric_kind kind);

/* How many shards count in this memory. */
unsigned metric_shards(const struct share *share);

/* The sum of the words of one metric of the table. */
uint64_t metric_total(const struct metric_sums *sums, const struct metric *metric);

/*
 * The time in us below which a part (0 to 1) of a histogram's events lie, as far as its buckets
 * say: within its bucket by linear interpolation, as PromQL's histogram_quantile(). words: the
 * histogram's. UINT64_MAX where there are no events.
 */
uint64_t metric_quantile(const uint64_t *words, double part);

/* What the front says of itself when it stops, and a few others ask for. */
struct metric_totals {
    uint64_t accepted;
    uint64_t closed;
    uint64_t handed_over;
    uint64_t requests;
    uint64_t calls;
    uint64_t dropped;
    uint64_t unheard;
};
struct metric_totals metric_totals(const struct share *share);
