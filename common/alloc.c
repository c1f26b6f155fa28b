#include "common/alloc.h"

#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CLASS_MIN_BITS = 7,  /* 128 bytes: the body of an ordinary answer */
    CLASS_MAX_BITS = 16, /* 64 KiB: above it malloc uses mmap soon, and blocks are rare */
    CLASS_COUNT = CLASS_MAX_BITS - CLASS_MIN_BITS + 1,
    CLASS_KEEP_BYTES = 1 << 20, /* kept free per class: 8,192 small blocks, 16 large ones */
    MAPPED_MIN = 256 * 1024,    /* bytes: blocks from this size on are mappings of their own */
    TOP_MAX = 1 << 20,          /* bytes: more than this at the heap's end is given back at once */
};

struct free_block {
    struct free_block *next;
};

static struct {
    struct free_block *first;
    size_t bytes;
} free_lists[CLASS_COUNT];

static size_t in_use;
static size_t kept; /* in free_lists */
static long fail_after = -1;

static bool fails_now(void)
{
    if (LIKELY(fail_after < 0))
        return false;
    return fail_after-- == 0;
}

static unsigned class_of(size_t size)
{
    if (size <= (1U << CLASS_MIN_BITS))
        return 0;
    return 64U - (unsigned)__builtin_clzl(size - 1) - CLASS_MIN_BITS;
}

void *mem_get(size_t size, size_t *ret_size)
{
    if (UNLIKELY(fails_now()))
        return NULL;
    unsigned class = class_of(size);
    if (class < CLASS_COUNT) {
        size = (size_t)1 << (class + CLASS_MIN_BITS);
        struct free_block *block = free_lists[class].first;
        if (block != NULL) {
            free_lists[class].first = block->next;
            free_lists[class].bytes -= size;
            kept -= size;
            in_use += size;
            *ret_size = size;
            return block;
        }
    }
    void *block = malloc(size);
    if (block == NULL)
        return NULL;
    in_use += size;
    *ret_size = size;
    return block;
}

void mem_put(void *memory, size_t size)
{
    if (memory == NULL)
        return;
    CHECK(in_use >= size);
    in_use -= size;
    unsigned class = class_of(size);
    if (class >= CLASS_COUNT || free_lists[class].bytes + size > CLASS_KEEP_BYTES) {
        free(memory);
        return;
    }
    struct free_block *block = memory;
    block->next = free_lists[class].first;
    free_lists[class].first = block;
    free_lists[class].bytes += size;
    kept += size;
}

void *mem_grow(void *block, size_t size, size_t want, size_t *ret_size)
{
    CHECK(want >= size);
    if (class_of(size) < CLASS_COUNT) {
        void *larger = mem_get(want, ret_size);
        if (larger == NULL)
            return NULL;
        memcpy(larger, block, size);
        mem_put(block, size);
        return larger;
    }
    if (UNLIKELY(fails_now()))
        return NULL;
    void *larger = realloc(
        block, want); /* a mapping grows without a copy, and without memory for both */
    if (larger == NULL)
        return NULL;
    in_use += want - size;
    *ret_size = want;
    return larger;
}

void *mem_zalloc(size_t size)
{
    if (UNLIKELY(fails_now()))
        return NULL;
    void *object = calloc(1, size);
    if (object != NULL)
        in_use += malloc_usable_size(object);
    return object;
}

void *mem_aligned(size_t align, size_t size)
{
    void *object = NULL;
    if (UNLIKELY(fails_now()) || posix_memalign(&object, align, size) != 0)
        return NULL;
    memset(object, 0, size);
    in_use += malloc_usable_size(object);
    return object;
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t in_pages(size_t size)
{
    size_t page = page_size();
    return (MAX(size, (size_t)1) + page - 1) & ~(page - 1);
}

void *mem_map(size_t align, size_t size)
{
    align = MAX(align, page_size());
    if (UNLIKELY(fails_now()) || size > SIZE_MAX / 2 - align)
        return NULL;
    size = in_pages(size);
    size_t all = size + align - page_size(); /* wherever it begins, what is wanted is in it */
    char *memory = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = (align - ((uintptr_t)memory & (align - 1))) & (align - 1);
    size_t after = all - before - size;
    if (before > 0)
        munmap(memory, before);
    if (after > 0)
        munmap(memory + before + size, after);
    in_use += size;
    return memory + before;
}

void mem_unmap(void *memory, size_t size)
{
    size = in_pages(size);
    CHECK(in_use >= size);
    in_use -= size;
    munmap(memory, size);
}

void *mem_free(void *object)
{
    if (object != NULL)
        in_use -= malloc_usable_size(object);
    free(object);
    return NULL;
}

void *mem_widen(void *array, size_t count, size_t room, size_t size)
{
    CHECK(room >= count);
    void *wider = mem_zalloc(room * size);
    if (wider == NULL)
        return NULL;
    if (count > 0)
        memcpy(wider, array, count * size);
    mem_free(array);
    return wider;
}

char *mem_strndup(const char *text, size_t n)
{
    char *copy = mem_zalloc(n + 1);
    if (copy != NULL)
        memcpy(copy, text, n);
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

void mem_fail_after(long n)
{
    fail_after = n;
}

void mem_init(void)
{
    const char *value = getenv("FRONTD_FAIL_ALLOC");
    if (value != NULL)
        fail_after = strtol(value, NULL, 10);
}

size_t mem_in_use(void)
{
    return in_use;
}

void mem_lent(size_t size)
{
    in_use += size;
}

void mem_returned(size_t size)
{
    CHECK(in_use >= size);
    in_use -= size;
}

size_t mem_held(void)
{
    return in_use + kept;
}

void mem_tune(void)
{
    mallopt(M_MMAP_THRESHOLD, MAPPED_MIN);
    mallopt(M_TRIM_THRESHOLD, TOP_MAX);
    mallopt(M_ARENA_MAX, 1);
}

void mem_give_back(void)
{
    mem_trim();
    malloc_trim(TOP_MAX);
}

void mem_trim(void)
{
    kept = 0;
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        while (free_lists[i].first != NULL) {
            struct free_block *block = free_lists[i].first;
            free_lists[i].first = block->next;
            free(block);
        }
        free_lists[i].bytes = 0;
    }
}
