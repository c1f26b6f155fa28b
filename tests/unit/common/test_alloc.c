#include <criterion/criterion.h>

#include <string.h>

#include "common/alloc.h"

Test(mem, widen_keeps_what_is_there)
{
    size_t before = mem_in_use();
    uint32_t *array = mem_widen(NULL, 0, 3, sizeof(*array));
    cr_assert(array[0] == 0 && array[1] == 0 && array[2] == 0);
    array[0] = 1;
    array[1] = 2;
    array[2] = 3;
    array = mem_widen(array, 2, 100, sizeof(*array));
    cr_assert(array[0] == 1 && array[1] == 2);
    for (size_t i = 2; i < 100; i++)
        cr_assert_eq(array[i], 0, "%zu", i);
    mem_free(array);
    cr_assert_eq(mem_in_use(), before, "the one before was given back");
}

Test(mem, widen_without_memory)
{
    size_t before = mem_in_use();
    uint32_t *array = mem_widen(NULL, 0, 2, sizeof(*array));
    array[1] = 7;
    mem_fail_after(0);
    cr_assert_null(mem_widen(array, 2, 4, sizeof(*array)));
    cr_assert_eq(array[1], 7, "it is as it was");
    mem_free(array);
    cr_assert_eq(mem_in_use(), before);
}
