#include "frontd/system/crypto_memory.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <string.h>

#include "common/base.h"

void *crypto_memory_take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return malloc(size);
}

void crypto_memory_give_back(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    if (memory != NULL)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

/* realloc() would leave what it moves where it was. */
void *crypto_memory_change(void *memory, size_t size, const char *file, int line)
{
    size_t before = memory == NULL ? 0 : malloc_usable_size(memory);
    if (memory != NULL && size > 0 && size <= before)
        return memory;
    void *larger = size == 0 ? NULL : crypto_memory_take(size, file, line);
    if (size > 0 && larger == NULL)
        return NULL;
    if (before > 0 && size > 0)
        memcpy(larger, memory, MIN(before, size));
    crypto_memory_give_back(memory, file, line);
    return larger;
}

bool crypto_memory_wipe(void)
{
    return CRYPTO_set_mem_functions(
               crypto_memory_take, crypto_memory_change, crypto_memory_give_back) == 1;
}
