#pragma once

/*
 * The best rows of very many, in a bounded room: those that come first in an order. Pure.
 */

#include "common/base.h"

struct best {
    size_t row_size; /* bytes */
    uint32_t limit;
    uint32_t count;
    uint32_t room; /* of rows and heap */
    char *rows;
    uint32_t *heap; /* places in `rows`, the worst row first */
    /* Below 0 where `a` comes before `b`. No two rows are the same. */
    int (*order)(const void *a, const void *b, const void *by);
    const void *by;
};

/* Zeroed memory is empty. limit: over 0. by: for order(), borrowed. */
void best_init(struct best *best, size_t row_size, uint32_t limit,
    int (*order)(const void *a, const void *b, const void *by), const void *by);
void best_deinit(struct best *best);

/*
 * Offers a row, which is copied where it is among the best so far: in place of the worst, where
 * there are as many as may be. Returns 0 with *ret_row: the copy, valid until the next row, or NULL
 * where it is not kept; or -ENOMEM.
 */
int best_offer(struct best *best, const void *row, void **ret_row);

/* Puts the rows in order, after the last offer. */
void best_sort(struct best *best);

/* The i-th row, from 0, after best_sort(). */
const void *best_row(const struct best *best, uint32_t i);
