#include "frontd/codec/coding_memory.h"

#include "common/alloc.h"

static size_t held;

void *coding_take(size_t size)
{
    size_t before = mem_in_use();
    void *object = mem_zalloc(size);
    held += mem_in_use() - before;
    return object;
}

void *coding_give(void *object)
{
    size_t before = mem_in_use();
    mem_free(object);
    held -= before - mem_in_use();
    return NULL;
}

size_t coding_held(void)
{
    return held;
}
