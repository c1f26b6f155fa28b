#include <criterion/criterion.h>

#include "frontd/shard/net/memory.h"

enum { LIMIT = 1000 };

Test(memory, levels_rise_and_fall)
{
    static const struct {
        unsigned used;
        enum memory_level level;
    } steps[] = {
        {0, MEMORY_EASY},
        {749, MEMORY_EASY},
        {750, MEMORY_TIGHT},
        {700, MEMORY_TIGHT},
        {699, MEMORY_EASY},
        {899, MEMORY_TIGHT},
        {900, MEMORY_SHORT},
        {850, MEMORY_SHORT},
        {849, MEMORY_TIGHT},
        {999, MEMORY_SHORT},
        {1000, MEMORY_OUT},
        {900, MEMORY_OUT},
        {899, MEMORY_SHORT},
        {5000, MEMORY_OUT},
        {0, MEMORY_EASY},
        {5000, MEMORY_OUT},
        {700, MEMORY_TIGHT},
        {750, MEMORY_TIGHT},
    };
    struct memory memory;
    memory_init(&memory, LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        enum memory_level before = memory.level;
        bool fallen = memory_settle(&memory, steps[i].used);
        cr_expect_eq(memory.level, steps[i].level, "step %zu: %d", i, memory.level);
        cr_expect_eq(fallen, memory.level < before);
        cr_expect_eq(memory_step(before, steps[i].used, LIMIT), memory.level);
    }
}

/* In the course of a turn it only rises, as soon as it is reached. */
Test(memory, raise)
{
    struct memory memory;
    memory_init(&memory, LIMIT);
    cr_expect_eq(memory_raise(&memory, 749), MEMORY_EASY);
    cr_expect_eq(memory_raise(&memory, 750), MEMORY_TIGHT);
    cr_expect_eq(memory_raise(&memory, 0), MEMORY_TIGHT);
    cr_expect_eq(memory_raise(&memory, 1000), MEMORY_OUT);
    cr_expect_eq(memory_raise(&memory, UINT64_MAX), MEMORY_OUT);
    cr_expect_eq(memory_raise(&memory, 0), MEMORY_OUT);
    cr_expect(memory_settle(&memory, 0));
    cr_expect_eq(memory_raise(&memory, 899), MEMORY_TIGHT);
}

Test(memory, no_limit)
{
    struct memory memory;
    memory_init(&memory, 0);
    cr_expect_eq(memory_raise(&memory, UINT64_MAX - 1), MEMORY_EASY);
    cr_expect_not(memory_settle(&memory, UINT64_MAX));
    cr_expect_eq(memory_step(MEMORY_OUT, 5, 0), MEMORY_EASY);
}

Test(memory, the_largest_limit)
{
    struct memory memory;
    uint64_t limit = (uint64_t)1 << 40;
    memory_init(&memory, limit);
    cr_expect_eq(memory_raise(&memory, limit / 4 * 3 - 1), MEMORY_EASY);
    cr_expect_eq(memory_raise(&memory, limit / 4 * 3), MEMORY_TIGHT);
    cr_expect_eq(memory_raise(&memory, limit - 1), MEMORY_SHORT);
    cr_expect_eq(memory_raise(&memory, limit), MEMORY_OUT);
}

/* Refusing begins with all of its time only after as much time without. */
Test(memory, is_stuck)
{
    static const struct {
        unsigned used;
        unsigned ms; /* since the last step */
        bool stuck;
    } steps[] = {
        {0, 0, false},
        {900, 100000, false}, /* nothing was asked while it was easy */
        {900, 2999, false},
        {900, 1, true},
        {1000, 1, true},
        {849, 10, false},
        {900, 100, false}, /* 100 ms have come back */
        {900, 99, false},
        {900, 1, true},
        {900, 100000, true},
        {0, 1, false},
        {900, 2000, false},
        {900, 1999, false},
        {0, 0, false},
        {0, 2000, false},
        {0, 1000, false},
        {900, 0, false},
        {900, 2999, false},
        {900, 1, true},
    };
    uint64_t now = 1;
    struct memory memory;
    memory_init(&memory, LIMIT);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        now += steps[i].ms;
        memory_settle(&memory, steps[i].used);
        cr_expect_eq(
            memory_is_stuck(&memory, now), steps[i].stuck, "step %zu: %u ms", i, memory.short_ms);
    }
}

Test(memory, little_is_less_the_shorter_it_is)
{
    struct memory memory;
    memory_init(&memory, 1000);
    cr_expect_eq(memory_growth(&memory, 0), 500u);
    cr_expect_eq(memory_growth(&memory, 998), 1u);
    cr_expect_eq(memory_growth(&memory, 1000), 0u);
    cr_expect_eq(memory_growth(&memory, 2000), 0u);
    memory_init(&memory, 0);
    cr_expect_eq(memory_growth(&memory, 1000), SIZE_MAX);
    cr_expect_eq(memory_little(MEMORY_EASY), SIZE_MAX);
    cr_expect_eq(memory_little(MEMORY_TIGHT), (size_t)65536);
    cr_expect_eq(memory_little(MEMORY_SHORT), (size_t)4096);
    cr_expect_eq(memory_little(MEMORY_OUT), (size_t)0);
}

Test(memory, given_back_after_a_fall)
{
    const uint64_t mib = 1 << 20;
    struct memory memory;
    memory_init(&memory, 0);
    cr_expect_not(memory_fallen(&memory, 100 * mib));
    cr_expect_not(memory_fallen(&memory, 75 * mib + 1), "less than a quarter");
    cr_expect(memory_fallen(&memory, 75 * mib));
    memory_given_back(&memory, 75 * mib);
    cr_expect_not(memory_fallen(&memory, 70 * mib));
    memory_given_back(&memory, 3 * mib);
    cr_expect_not(memory_fallen(&memory, 2 * mib + 1), "less than 1 MiB");
    cr_expect(memory_fallen(&memory, 2 * mib));
    cr_expect_not(memory_fallen(&memory, 6 * mib), "the next peak");
}
