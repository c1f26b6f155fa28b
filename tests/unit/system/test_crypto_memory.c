#include <criterion/criterion.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frontd/system/crypto_memory.h"

enum { SIZE = 200, HEAD = 32 /* bytes in which the allocator links what is free */ };

/* Whether that byte is in memory that was given back; the memory of sanitizers is as it was left.
 */
__attribute__((no_sanitize("address"))) static bool is_left(uintptr_t address, char byte)
{
    const volatile char *memory = (const volatile char *)address;
    for (size_t i = HEAD; i < SIZE; i++) {
        if (memory[i] == byte)
            return true;
    }
    return false;
}

static char *fill(char byte)
{
    char *memory = crypto_memory_take(SIZE, "", 0);
    cr_assert_not_null(memory);
    memset(memory, byte, SIZE);
    return memory;
}

Test(crypto_memory, what_is_given_back_is_overwritten)
{
    char *memory = fill('x');
    uintptr_t address = (uintptr_t)memory;
    cr_assert(is_left(address, 'x'));
    crypto_memory_give_back(memory, "", 0);
    cr_expect_not(is_left(address, 'x'));
    crypto_memory_give_back(NULL, "", 0);
}

Test(crypto_memory, what_moves_is_overwritten)
{
    char *memory = fill('y');
    uintptr_t address = (uintptr_t)memory;
    char *larger = crypto_memory_change(memory, 100 * SIZE, "", 0);
    cr_assert_not_null(larger);
    for (size_t i = 0; i < SIZE; i++)
        cr_expect_eq(larger[i], 'y');
    cr_expect_not(is_left(address, 'y'));
    cr_expect_eq(crypto_memory_change(larger, 10, "", 0), larger);
    cr_expect_null(crypto_memory_change(larger, 0, "", 0));
    char *new = crypto_memory_change(NULL, 10, "", 0);
    cr_expect_not_null(new);
    crypto_memory_give_back(new, "", 0);
}

Test(crypto_memory, too_much)
{
    volatile size_t most = SIZE_MAX; /* the compiler would warn */
    cr_expect_null(crypto_memory_take(most, "", 0));
    char *memory = fill('z');
    cr_expect_null(crypto_memory_change(memory, most - 1, "", 0));
    cr_expect_eq(memory[SIZE - 1], 'z', "it is still there");
    crypto_memory_give_back(memory, "", 0);
}

Test(crypto_memory, is_aligned_as_that_of_malloc)
{
    for (size_t size = 1; size < 100; size++) {
        void *memory = crypto_memory_take(size, "", 0);
        cr_expect_eq((uintptr_t)memory % alignof(max_align_t), 0u);
        crypto_memory_give_back(memory, "", 0);
    }
}
