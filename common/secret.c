#include "common/secret.h"

#include <string.h>
#include <sys/mman.h>

#include "common/alloc.h"

void *secret_aligned(size_t align, size_t size)
{
    void *memory = mem_map(align, size);
    size_t n = MAX(size, (size_t)1);
    if (memory == NULL)
        return NULL;
    if (madvise(memory, n, MADV_DONTDUMP) < 0)
        return secret_free(memory, size);
    madvise(memory, n, MADV_WIPEONFORK); /* EINVAL: before Linux 4.14 */
    return memory;
}

void *secret_alloc(size_t size)
{
    return secret_aligned(1, size);
}

void *secret_free(void *memory, size_t size)
{
    if (memory == NULL)
        return NULL;
    secret_wipe(memory, size);
    mem_unmap(memory, size);
    return NULL;
}

void secret_wipe(void *memory, size_t n)
{
    explicit_bzero(memory, n);
}
