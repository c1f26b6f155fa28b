#pragma once

/*
 * The books of processes that have ended are closed: what they had open is counted as ended, so
 * that what has begun is what has ended and what goes on, at every moment.
 *
 * A connection that goes from one seat to another is counted by the two sides, each in words of its
 * own: by the new one as arrived, once it is that one's, and by the old one as departed, once it
 * has let go of it. It has moved as soon as one of the two says so. While the new side does not
 * know yet whose it is, it is `arriving`: it is not booked then though the old side has ended, but
 * later.
 */

#include "frontd/ipc/metrics.h"

/*
 * For the supervisor, when a process has ended. alive: the set of seats whose processes live.
 * Returns whether something is left to be booked later.
 */
bool metric_book(struct share *share, uint64_t alive);

/* The connections of a listener's row that are a seat's now, as far as its books say. */
uint64_t metric_open(const struct share *share, unsigned seat, unsigned row);
