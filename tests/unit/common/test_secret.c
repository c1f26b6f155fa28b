#include <criterion/criterion.h>
#include <string.h>

#include "common/secret.h"
#include "tests/unit/support/dumps.h"

Test(secret, is_zeroed_and_in_no_dump)
{
    static const size_t sizes[] = {1, 100, 4096, 100000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *memory = secret_alloc(sizes[i]);
        cr_assert_not_null(memory);
        for (size_t k = 0; k < sizes[i]; k++)
            cr_assert_eq(memory[k], 0);
        memset(memory, 'x', sizes[i]);
        cr_expect(is_left_out_of_dumps(memory));
        cr_expect(is_left_out_of_dumps(memory + sizes[i] - 1));
        cr_expect_null(secret_free(memory, sizes[i]));
    }
    char plain[16];
    cr_expect_not(is_left_out_of_dumps(plain));
}

Test(secret, nothing)
{
    cr_expect_null(secret_free(NULL, 100));
    cr_expect_null(secret_alloc(SIZE_MAX / 2));
    void *memory = secret_alloc(0);
    cr_expect_not_null(memory);
    secret_free(memory, 0);
}

Test(secret, wipe)
{
    char bytes[8] = "abcdefg";
    secret_wipe(bytes + 1, 3);
    cr_expect_eq(memcmp(bytes, "a\0\0\0efg", 8), 0);
    secret_wipe(bytes, 0);
}
