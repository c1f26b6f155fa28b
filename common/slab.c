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
    struct list all;  /* in slab->chunks; alone: it is the spare one */
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
    list_init(&slab->chunks);
    list_init(&slab->walks);
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
    CHECK(slab->used == 0 && list_empty(&slab->partial) && list_empty(&slab->walks));
    slab->spare = free_chunk(slab, slab->spare);
}

/* A chunk leaves slab->chunks: walks that stand in it go on with the next one. */
static void leave_chunks(struct slab *slab, struct list *all)
{
    list_for_each (node, &slab->walks) {
        struct slab_walk *walk = container_of(node, struct slab_walk, node);
        if (walk->next != all)
            continue;
        walk->next = all->next;
        walk->index = 0;
    }
    list_remove(all);
}

void slab_walk(struct slab *slab, struct slab_walk *walk)
{
    *walk = (struct slab_walk){.slab = slab, .next = slab->chunks.next};
    list_init(&walk->node);
    list_append(&slab->walks, &walk->node);
}

void slab_stop(struct slab_walk *walk)
{
    if (walk->slab == NULL)
        return;
    list_remove(&walk->node);
    walk->slab = NULL;
}

#ifdef SLAB_ASAN

/* Under AddressSanitizer every object is its own allocation, so that a use after free is seen. */
struct slab_object {
    struct list all; /* in slab->chunks */
    char object[];
};

void *slab_get(struct slab *slab)
{
    size_t size = sizeof(struct slab_object) + slab->object_size;
    struct slab_object *object = slab->secret ? secret_alloc(size) : mem_zalloc(size);
    if (object == NULL)
        return NULL;
    list_init(&object->all);
    list_append(&slab->chunks, &object->all);
    slab->used++;
    return object->object;
}

void slab_put(struct slab *slab, void *put)
{
    struct slab_object *object = container_of(put, struct slab_object, object);
    CHECK(slab->used > 0);
    slab->used--;
    leave_chunks(slab, &object->all);
    if (slab->secret)
        secret_free(object, sizeof(*object) + slab->object_size);
    else
        mem_free(object);
}

void *slab_next(struct slab_walk *walk)
{
    if (walk->slab == NULL)
        return NULL;
    if (walk->next == &walk->slab->chunks) {
        slab_stop(walk);
        return NULL;
    }
    struct slab_object *object = container_of(walk->next, struct slab_object, all);
    walk->next = walk->next->next;
    return object->object;
}

#else

static struct slab_chunk *chunk_of(void *object)
{
    return (void *)((uintptr_t)object & ~(uintptr_t)(CHUNK_SIZE - 1));
}

static size_t places(const struct slab *slab)
{
    return (CHUNK_BYTES - sizeof(struct slab_chunk)) / slab->object_size;
}

static struct slab_chunk *new_chunk(const struct slab *slab)
{
    struct slab_chunk *chunk = slab->secret ? secret_aligned(CHUNK_SIZE, CHUNK_SIZE)
                                            : mem_aligned(CHUNK_SIZE, CHUNK_BYTES);
    if (chunk == NULL)
        return NULL;
    list_init(&chunk->node);
    list_init(&chunk->all);
    for (size_t i = places(slab); i-- > 0;) {
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
    list_append(&slab->chunks, &chunk->all);
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
    leave_chunks(slab, &chunk->all);
    if (slab->spare == NULL)
        slab->spare = chunk;
    else
        free_chunk(slab, chunk);
}

void *slab_next(struct slab_walk *walk)
{
    struct slab *slab = walk->slab;
    if (slab == NULL)
        return NULL;
    if (walk->next == &slab->chunks) {
        slab_stop(walk);
        return NULL;
    }
    struct slab_chunk *chunk = container_of(walk->next, struct slab_chunk, all);
    void *place = chunk->objects + walk->index * slab->object_size;
    if (++walk->index == places(slab)) {
        walk->next = walk->next->next;
        walk->index = 0;
    }
    return place;
}

#endif
