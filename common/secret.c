#include "common/secret.h"

#include <string.h>
#include <sys/mman.h>

void *secret_alloc(size_t size)
{
    void *memory = mmap(
        NULL, MAX(size, (size_t)1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (madvise(memory, MAX(size, (size_t)1), MADV_DONTDUMP) < 0)
        return secret_free(memory, size);
    return memory;
}

void *secret_free(void *memory, size_t size)
{
    if (memory == NULL)
        return NULL;
    secret_wipe(memory, size);
    munmap(memory, MAX(size, (size_t)1));
    return NULL;
}

void secret_wipe(void *memory, size_t n)
{
    explicit_bzero(memory, n);
}
