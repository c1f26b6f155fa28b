#include <criterion/criterion.h>

#include <string.h>

#include "common/random.h"

Test(random, digits)
{
    char all[2 * 64 + 2];
    memset(all, '!', sizeof(all));
    for (size_t n = 0; n <= 64; n++) {
        random_hex(all, n);
        cr_assert_eq(strlen(all), 2 * n);
        cr_assert_eq(strspn(all, "0123456789abcdef"), 2 * n);
        cr_assert_eq(all[2 * n + 1], '!', "one past the end is not touched");
    }
}

Test(random, each_is_another)
{
    char a[2 * 64 + 1];
    char b[2 * 64 + 1];
    for (int i = 0; i < 100; i++) {
        random_hex(a, 64);
        random_hex(b, 64);
        cr_assert(strncmp(a, b, 64) != 0 && strcmp(a + 64, b + 64) != 0);
        cr_assert(strncmp(a, a + 64, 64) != 0, "the halves differ");
    }
}
