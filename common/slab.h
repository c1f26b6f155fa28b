#pragma once

/*
 * Objects of one size, taken from chunks: no allocation once chunks are there, no header per
 * object. A chunk lies at a multiple of its size, so the chunk of an object is known by its
 * address. Empty chunks are given back, but for one spare.
 */

#include "common/list.h"

struct slab_chunk;

struct slab {
    struct list partial;      /* chunks that have a free object, the one to take from first */
    struct list chunks;       /* all that have objects which are out */
    struct list walks;        /* see slab_walk() */
    struct slab_chunk *spare; /* an empty chunk, in no list; NULL: there is none */
    size_t object_size;
    bool secret; /* slab_init_secret() */
    size_t used; /* objects that are out */
};

/*
 * object_size: bytes, rounded up to a multiple of 8. Objects of a multiple of 64 bytes begin at a
 * cache line (but not under AddressSanitizer).
 */
void slab_init(struct slab *slab, size_t object_size);

/* The same for objects with keys: they are in no core dump (common/secret.h), and are overwritten
 * when they come back. */
void slab_init_secret(struct slab *slab, size_t object_size);

/* CHECKs that every object is back. */
void slab_deinit(struct slab *slab);

/* A zeroed object, or NULL when there is no memory. Given back with slab_put(). */
void *slab_get(struct slab *slab);
void slab_put(struct slab *slab, void *object);

/*
 * A walk over the places of a slab, over as much time as it takes: an object that is out all the
 * while is met once, one that comes or goes meanwhile at most once. The slab has a pointer to the
 * walk until it is over: it may not move in memory.
 */
struct slab_walk {
    struct list node;  /* in slab->walks */
    struct slab *slab; /* NULL: it is over */
    struct list *next; /* of slab->chunks: the chunk that it stands in; the list's head: the end */
    size_t index;      /* of the next place in there */
};

void slab_walk(struct slab *slab, struct slab_walk *walk);

/*
 * The next place; NULL: there are no more, and the walk is over. It may be free: the first word of
 * such a place is NULL or the address of another place of the slab, so objects have to begin with a
 * word by which they are told apart.
 */
void *slab_next(struct slab_walk *walk);

/* Ends a walk before that; accepts one that is over, and one that is zeroed. */
void slab_stop(struct slab_walk *walk);
