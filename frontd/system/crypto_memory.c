#include "frontd/system/crypto_memory.h"

#include <openssl/crypto.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base.h"

/* Before all memory that libcrypto has: a handshake frees a thousand pieces, and asking the
 * allocator for the size of each took 2 % of its time. */
struct head {
    alignas(max_align_t) size_t size; /* bytes behind it */
};

static struct head *head_of(void *memory)
{
    return (struct head *)memory - 1;
}

void *crypto_memory_take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    struct head *head = size > SIZE_MAX - sizeof(*head) ? NULL : malloc(sizeof(*head) + size);
    if (head == NULL)
        return NULL;
    head->size = size;
    return head + 1;
}

void crypto_memory_give_back(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    if (memory == NULL)
        return;
    explicit_bzero(memory, head_of(memory)->size);
    free(head_of(memory));
}

/* realloc() would leave what it moves where it was. */
void *crypto_memory_change(void *memory, size_t size, const char *file, int line)
{
    size_t before = memory == NULL ? 0 : head_of(memory)->size;
    if (memory != NULL && size > 0 && size <= before)
        return memory;
    void *larger = size == 0 ? NULL : crypto_memory_take(size, file, line);
    if (size > 0 && larger == NULL)
        return NULL;
    if (before > 0 && size > 0)
        memcpy(larger, memory, before);
    crypto_memory_give_back(memory, file, line);
    return larger;
}

bool crypto_memory_wipe(void)
{
    return CRYPTO_set_mem_functions(
               crypto_memory_take, crypto_memory_change, crypto_memory_give_back) == 1;
}
