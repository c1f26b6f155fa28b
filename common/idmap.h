#pragma once

/*
 * Finds an object by a number, at the same cost for each pattern of numbers: numbers that count
 * up, the few that are left of many thousands, and random ones. Peers never choose the numbers.
 */

#include "common/base.h"

/* Member of the object that is looked up. */
struct idmap_node {
    struct idmap_node *next;
    uint64_t id;
};

struct idmap {
    struct idmap_node **buckets;
    size_t mask; /* buckets - 1, a power of two minus one */
    size_t count;
    unsigned shift; /* 64 - the bits of a bucket's number */
};

/* Returns 0 or -ENOMEM. */
int idmap_init(struct idmap *map);

/* CHECKs that the map is empty. */
void idmap_deinit(struct idmap *map);

/*
 * Adds node with node->id, which must not be there yet. Cannot fail: where the table cannot grow
 * for want of memory, chains get longer.
 */
void idmap_add(struct idmap *map, struct idmap_node *node);

/* The node of that id, or NULL. */
struct idmap_node *idmap_find(const struct idmap *map, uint64_t id);

/* Removes a node that is there. */
void idmap_remove(struct idmap *map, struct idmap_node *node);

/*
 * Removes every node whose id is above `floor` and returns them as a chain linked by next, the
 * highest id first; NULL where there is none.
 */
struct idmap_node *idmap_take_above(struct idmap *map, uint64_t floor);

/* Calls visit() with each node, in no order, which leaves the map as it is. */
void idmap_each(
    const struct idmap *map, void (*visit)(struct idmap_node *node, void *arg), void *arg);
