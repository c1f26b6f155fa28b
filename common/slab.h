#pragma once

/* Objects of one size, taken from chunks: no allocation once it is warm, no header per object. */

#include "common/base.h"

struct slab_chunk;

struct slab {
    struct slab_chunk *chunks;
    void *free; /* first free object; each holds a pointer to the next */
    size_t object_size;
    size_t used; /* objects that are out */
};

/*
 * object_size: bytes, rounded up to a multiple of 8. Objects of a multiple of 64 bytes begin where
 * a cache line does (but not under AddressSanitizer).
 */
void slab_init(struct slab *slab, size_t object_size);

/* CHECKs that every object is back. */
void slab_deinit(struct slab *slab);

/* A zeroed object, or NULL when there is no memory. Given back with slab_put(). */
void *slab_get(struct slab *slab);
void slab_put(struct slab *slab, void *object);
