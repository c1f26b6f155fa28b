#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "common/mem.h"
#include "common/slab.h"

enum { COUNT = 5000 };

static bool is_zero(const char *object, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (object[i] != 0)
            return false;
    }
    return true;
}

Test(slab, objects_are_zeroed_aligned_and_apart)
{
    static char *objects[COUNT];
    struct slab slab;
    slab_init(&slab, 100);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            objects[i] = slab_get(&slab);
            cr_assert_not_null(objects[i]);
            cr_assert_eq((uintptr_t)objects[i] % 8, (uintptr_t)0);
            cr_assert(is_zero(objects[i], 100));
            memset(objects[i], (int)(i & 0x7f) + 1, 100);
        }
        cr_assert_eq(slab.used, (size_t)COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            cr_assert_eq(objects[i][0], (char)((i & 0x7f) + 1));
            cr_assert_eq(objects[i][99], (char)((i & 0x7f) + 1));
            slab_put(&slab, objects[i]);
        }
        cr_assert_eq(slab.used, (size_t)0);
    }
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

#ifndef __SANITIZE_ADDRESS__
Test(slab, cache_lines)
{
    static void *objects[COUNT];
    struct slab slab;
    slab_init(&slab, 192);
    for (size_t i = 0; i < COUNT; i++) {
        objects[i] = slab_get(&slab);
        cr_assert_eq((uintptr_t)objects[i] % 64, (uintptr_t)0);
        memset(objects[i], 1, 192);
    }
    for (size_t i = 0; i < COUNT; i++)
        slab_put(&slab, objects[i]);
    slab_deinit(&slab);
}
#endif

Test(slab, what_is_given_back_is_used_again)
{
    struct slab slab;
    slab_init(&slab, 64);
    void *first = slab_get(&slab);
    slab_put(&slab, first);
    size_t before = mem_in_use();
    for (int i = 0; i < COUNT; i++) {
        void *object = slab_get(&slab);
        cr_assert_not_null(object);
        slab_put(&slab, object);
    }
    cr_assert_eq(mem_in_use(), before);
    slab_deinit(&slab);
}

Test(slab, without_memory_there_is_no_object)
{
    struct slab slab;
    slab_init(&slab, 64);
    mem_fail_after(0);
    cr_assert_null(slab_get(&slab));
    cr_assert_eq(slab.used, (size_t)0);
    void *object = slab_get(&slab);
    cr_assert_not_null(object);
    slab_put(&slab, object);
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

Test(slab, deinit_checks_that_all_are_back, .signal = SIGABRT)
{
    struct slab slab;
    slab_init(&slab, 64);
    cr_assert_not_null(slab_get(&slab));
    slab_deinit(&slab);
}
