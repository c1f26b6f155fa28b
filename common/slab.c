#include "common/slab.h"

#include <string.h>

#include "common/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_ASAN 1
#endif
#endif

enum {
    CHUNK_SIZE = 64 * 1024,
    CACHE_LINE = 64, /* bytes: where the first object of a chunk begins */
};

struct slab_chunk {
    struct slab_chunk *next;
    char objects[];
};

void slab_init(struct slab *slab, size_t object_size)
{
    *slab = (struct slab){.object_size = (object_size + 7) & ~(size_t)7};
    CHECK(slab->object_size <= CHUNK_SIZE / 4);
}

void slab_deinit(struct slab *slab)
{
    CHECK(slab->used == 0);
    while (slab->chunks != NULL) {
        struct slab_chunk *chunk = slab->chunks;
        slab->chunks = chunk->next;
        mem_free(chunk);
    }
    slab->free = NULL;
}

#ifdef SLAB_ASAN

/* Under AddressSanitizer every object is its own allocation, so that a use after free is seen. */
void *slab_get(struct slab *slab)
{
    void *object = mem_zalloc(slab->object_size);
    slab->used += object != NULL;
    return object;
}

void slab_put(struct slab *slab, void *object)
{
    CHECK(slab->used > 0);
    slab->used--;
    mem_free(object);
}

#else

static int slab_grow(struct slab *slab)
{
    struct slab_chunk *chunk = mem_zalloc(CHUNK_SIZE);
    if (chunk == NULL)
        return -1;
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    size_t skipped = -(uintptr_t)chunk->objects % CACHE_LINE;
    size_t count = (CHUNK_SIZE - sizeof(*chunk) - skipped) / slab->object_size;
    for (size_t i = count; i-- > 0;) {
        void *object = chunk->objects + skipped + i * slab->object_size;
        *(void **)object = slab->free;
        slab->free = object;
    }
    return 0;
}

void *slab_get(struct slab *slab)
{
    if (UNLIKELY(slab->free == NULL) && slab_grow(slab) < 0)
        return NULL;
    void *object = slab->free;
    slab->free = *(void **)object;
    slab->used++;
    memset(object, 0, slab->object_size);
    return object;
}

void slab_put(struct slab *slab, void *object)
{
    CHECK(slab->used > 0);
    slab->used--;
    *(void **)object = slab->free;
    slab->free = object;
}

#endif
