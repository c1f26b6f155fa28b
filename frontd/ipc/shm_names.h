#pragma once

/*
 * The names of rows of metrics. A row belongs to a name for as long as the memory lives, so that
 * what was counted stays and two generations count in one row. What has none, since all rows of its
 * kind are taken, counts in row 0.
 *
 * The names are in the shared memory, where any shard may write: what is read of them is bounded,
 * and good for a label and nothing else.
 */

#include "frontd/ipc/metrics.h"

enum { SHARE_NAME_MAX = 104 /* bytes; a longer name is cut, and ends in a hash of all of it */ };

/*
 * The row of a name. text: a listener's name, a route's path (with its host before it), a pool's
 * name, a method. ref: what it is of, 16 bits: the protocol of a listener (enum conf_protocol), the
 * row of a route's listener, the row of a pair's route; else 0. Two names of different refs are
 * different.
 *
 * claim: takes a free row where there is none yet. Any process may do so at any time.
 */
unsigned share_name_claim(
    struct share *share, enum metric_kind kind, unsigned ref, struct span text);
/* The same without taking one. */
unsigned share_name_find(
    const struct share *share, enum metric_kind kind, unsigned ref, struct span text);

/*
 * The name of a row, as text of at most SHARE_NAME_MAX bytes, which may be any, copied. Returns
 * false where it has none; row 0 is "other".
 */
struct share_name {
    unsigned ref;
    size_t n;
    char text[SHARE_NAME_MAX];
};
bool share_name_of(
    const struct share *share, enum metric_kind kind, unsigned row, struct share_name *ret_name);
