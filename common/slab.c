#include "common/slab.h"

#include <string.h>

#include "common/alloc.h"
#include "common/secret.h"

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_ASAN 1
#endif
#endif

enum {
    CHUNK_SIZE = 64 * 1024, /* a power of two */
    /* Less the allocator's header of each block, so that chunks which are made one after the other
     * lie side by side. */
    CHUNK_BYTES = CHUNK_SIZE - 2 * sizeof(size_t),
    CACHE_LINE = 64, /* bytes: where the first object of a chunk begins */
};

struct slab_chunk {
    struct list node; /* in slab->partial; alone: it is full, or the spare one */
    void *free;       /* first free object; each holds a pointer to the next */
    size_t used;      /* objects that are out */
    _Alignas(CACHE_LINE) char objects[];
};
_Static_assert(sizeof(struct slab_chunk) == CACHE_LINE, "objects begin where a cache line does");

void slab_init(struct slab *slab, size_t object_size)
{
    *slab = (struct slab){.object_size = (object_size + 7) & ~(size_t)7};
    list_init(&slab->partial);
    CHECK(slab->object_size <= CHUNK_SIZE / 4);
}

void slab_init_secret(struct slab *slab, size_t object_size)
{
    slab_init(slab, object_size);
    slab->secret = true;
}

static void *free_chunk(const struct slab *slab, struct slab_chunk *chunk)
{
    return slab->secret ? secret_free(chunk, CHUNK_SIZE) : mem_free(chunk);
}

void slab_deinit(struct slab *slab)
{
    CHECK(slab->used == 0 && list_empty(&slab->partial));
    slab->spare = free_chunk(slab, slab->spare);
}

#ifdef SLAB_ASAN

/* Under AddressSanitizer every object is its own allocation, so that a use after free is seen. */
void *slab_get(struct slab *slab)
{
    void *object = slab->secret ? secret_alloc(slab->object_size) : mem_zalloc(slab->object_size);
    slab->used += object != NULL;
    return object;
}

void slab_put(struct slab *slab, void *object)
{
    CHECK(slab->used > 0);
    slab->used--;
    if (slab->secret)
        secret_free(object, slab->object_size);
    else
        mem_free(object);
}

#else

static struct slab_chunk *chunk_of(void *object)
{
    return (void *)((uintptr_t)object & ~(uintptr_t)(CHUNK_SIZE - 1));
}

static struct slab_chunk *new_chunk(const struct slab *slab)
{
    struct slab_chunk *chunk = slab->secret ? secret_aligned(CHUNK_SIZE, CHUNK_SIZE)
                                            : mem_aligned(CHUNK_SIZE, CHUNK_BYTES);
    if (chunk == NULL)
        return NULL;
    list_init(&chunk->node);
    size_t count = (CHUNK_BYTES - sizeof(*chunk)) / slab->object_size;
    for (size_t i = count; i-- > 0;) {
        void *object = chunk->objects + i * slab->object_size;
        *(void **)object = chunk->free;
        chunk->free = object;
    }
    return chunk;
}

/* Puts a chunk with free objects first. Returns 0 or -1. */
static int slab_grow(struct slab *slab)
{
    struct slab_chunk *chunk = slab->spare != NULL ? slab->spare : new_chunk(slab);
    if (chunk == NULL)
        return -1;
    slab->spare = NULL;
    list_append(&slab->partial, &chunk->node);
    return 0;
}

void *slab_get(struct slab *slab)
{
    if (UNLIKELY(list_empty(&slab->partial)) && slab_grow(slab) < 0)
        return NULL;
    struct slab_chunk *chunk = list_first(&slab->partial, struct slab_chunk, node);
    void *object = chunk->free;
    chunk->free = *(void **)object;
    chunk->used++;
    if (UNLIKELY(chunk->free == NULL))
        list_remove(&chunk->node);
    slab->used++;
    memset(object, 0, slab->object_size);
    return object;
}

void slab_put(struct slab *slab, void *object)
{
    struct slab_chunk *chunk = chunk_of(object);
    CHECK(slab->used > 0 && chunk->used > 0);
    slab->used--;
    if (UNLIKELY(slab->secret))
        secret_wipe(object, slab->object_size);
    if (UNLIKELY(chunk->free == NULL))
        list_append(&slab->partial, &chunk->node);
    *(void **)object = chunk->free;
    chunk->free = object;
    if (LIKELY(--chunk->used > 0))
        return;
    list_remove(&chunk->node);
    if (slab->spare == NULL)
        slab->spare = chunk;
    else
        free_chunk(slab, chunk);
}

#endif
