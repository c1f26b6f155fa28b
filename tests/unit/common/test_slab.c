#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "common/alloc.h"
#include "common/slab.h"
#include "tests/unit/support/dumps.h"

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

#ifndef __SANITIZE_ADDRESS__
/* What is empty is given back, but for one chunk; in whatever order objects come back. */
Test(slab, empty_chunks_are_given_back)
{
    static void *objects[COUNT];
    struct slab slab;
    slab_init(&slab, 192);
    void *first = slab_get(&slab);
    size_t one = mem_in_use();
    for (int order = 0; order < 3; order++) {
        for (size_t i = 0; i < COUNT; i++)
            objects[i] = slab_get(&slab);
        cr_assert_geq(mem_in_use(), (size_t)COUNT * 192);
        for (size_t i = 0; i < COUNT; i++) {
            size_t at = order == 0 ? i : order == 1 ? COUNT - 1 - i : i * 7 % COUNT;
            slab_put(&slab, objects[at]);
        }
        cr_assert_leq(mem_in_use(), 3 * one);
    }
    slab_put(&slab, first);
    cr_assert_eq(mem_in_use(), one, "a spare one is kept");
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

/* At the border of a chunk: no allocation for each object that comes and goes. */
Test(slab, a_spare_chunk_is_kept)
{
    static void *objects[COUNT];
    struct slab slab;
    size_t n = 0;
    slab_init(&slab, 192);
    objects[n++] = slab_get(&slab);
    size_t one = mem_in_use();
    while (mem_in_use() == one)
        objects[n++] = slab_get(&slab);
    size_t two = mem_in_use();
    for (int i = 0; i < COUNT; i++) {
        slab_put(&slab, objects[n - 1]);
        cr_assert_eq(mem_in_use(), two);
        objects[n - 1] = slab_get(&slab);
        cr_assert_eq(mem_in_use(), two);
    }
    while (n > 0)
        slab_put(&slab, objects[--n]);
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

/* In all builds; and no chunk of them is kept for objects of another slab. */
Test(slab, secrets_are_in_no_dump)
{
    static char *objects[COUNT];
    struct slab slab;
    size_t before = mem_in_use();
    slab_init_secret(&slab, 250);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT / 4; i++) {
            objects[i] = slab_get(&slab);
            cr_assert(is_zero(objects[i], 250));
            memset(objects[i], 'x', 250);
        }
        for (size_t i = 0; i < COUNT / 4; i += 100)
            cr_assert(is_left_out_of_dumps(objects[i]) && is_left_out_of_dumps(objects[i] + 249));
        for (size_t i = 0; i < COUNT / 4; i++)
            slab_put(&slab, objects[i]);
    }
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), before);
}

#ifndef __SANITIZE_ADDRESS__
/* At once, and not when the memory is used again; but for the pointer to the next free object. */
Test(slab, secrets_are_wiped)
{
    char *objects[3];
    struct slab slab;
    slab_init_secret(&slab, 250);
    for (size_t i = 0; i < ARRAY_LEN(objects); i++)
        memset(objects[i] = slab_get(&slab), 'x', 250);
    slab_put(&slab, objects[1]);
    cr_expect(is_zero(objects[1] + sizeof(void *), 250 - sizeof(void *)));
    cr_expect(objects[0][249] == 'x' && objects[2][0] == 'x');
    slab_put(&slab, objects[0]);
    slab_put(&slab, objects[2]);
    slab_deinit(&slab);
}
#endif

Test(slab, secrets_without_memory)
{
    struct slab slab;
    slab_init_secret(&slab, 64);
    mem_fail_after(0);
    cr_assert_null(slab_get(&slab));
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

struct thing {
    const void *mark; /* tells a thing from a free place */
    unsigned met;
    char rest[240];
};

static const char mark;

static struct thing *make_thing(struct slab *slab)
{
    struct thing *thing = slab_get(slab);
    cr_assert_not_null(thing);
    thing->mark = &mark;
    return thing;
}

/* Walks on for `n` places. Returns whether there are more. */
static bool walk_on(struct slab_walk *walk, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct thing *thing = slab_next(walk);
        if (thing == NULL)
            return false;
        if (thing->mark == &mark)
            thing->met++;
    }
    return true;
}

/* Things come and go at each step of the walk: what stays is met once, and nothing twice. */
Test(slab, walks_meet_what_stays_once)
{
    enum { THINGS = 2000 };
    static struct thing *things[THINGS];
    struct slab slab;
    slab_init(&slab, sizeof(struct thing));
    for (unsigned step = 1; step < 1000; step *= 3) {
        struct slab_walk walk, other;
        struct thing *late = NULL;
        for (size_t i = 0; i < THINGS; i++)
            things[i] = make_thing(&slab);
        slab_walk(&slab, &walk);
        slab_walk(&slab, &other);
        cr_assert(walk_on(&other, 700)); /* which stands elsewhere, and is left there */
        for (size_t i = 0; i < THINGS; i++)
            things[i]->met = 0;
        for (size_t gone = 0; walk_on(&walk, step); gone += 2) {
            if (gone < THINGS) { /* from both ends: whole chunks go that it stands in, or will */
                size_t at = gone % 4 == 0 ? gone : THINGS - gone;
                cr_assert_leq(things[at]->met, 1);
                slab_put(&slab, things[at]);
                things[at] = NULL;
            }
            if (late == NULL)
                late = make_thing(&slab);
        }
        cr_assert_null(slab_next(&walk), "it is over");
        for (size_t i = 0; i < THINGS; i++) {
            if (things[i] == NULL)
                continue;
            cr_assert_eq(things[i]->met, 1, "thing %zu, step %u: %u", i, step, things[i]->met);
            slab_put(&slab, things[i]);
        }
        cr_assert_leq(late->met, 1);
        slab_put(&slab, late);
        cr_assert(!walk_on(&other, SIZE_MAX), "chunks that it stood in are gone");
        slab_walk(&slab, &other);
        slab_stop(&other);
        slab_stop(&other);
    }
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), (size_t)0);
}
