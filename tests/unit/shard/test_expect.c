#include <criterion/criterion.h>
#include <string.h>

#include "frontd/shard/net/expect.h"

enum { ROOM = 1 << 20, CALLS = 64, KIND = 7, SEED = 4711 };

static struct expect expect;

static uint32_t size_at(uint64_t now, bool *ret_shrinks)
{
    return expect_size(&expect, KIND, ROOM, CALLS, now, ret_shrinks);
}

/* One call, then two, four, … for as long as none is answered. */
Test(expect, an_unknown_kind_starts_slowly)
{
    const uint64_t start = UINT64_C(0xfffffff0); /* the lower bits turn over */
    bool shrinks;
    cr_expect_eq(size_at(start, &shrinks), (uint32_t)ROOM);
    cr_expect(shrinks);
    for (unsigned step = 0; step < 6; step++) {
        uint64_t at = start + step * EXPECT_STEP_MS;
        cr_expect_eq(size_at(at, &shrinks), (uint32_t)ROOM >> step);
        cr_expect(shrinks);
        cr_expect_eq(size_at(at + EXPECT_STEP_MS - 1, &shrinks), (uint32_t)ROOM >> step);
    }
    cr_expect_eq(size_at(start + 6 * EXPECT_STEP_MS, &shrinks), (uint32_t)ROOM / CALLS);
    cr_expect_not(shrinks);
    cr_expect_eq(size_at(start + 1000000, &shrinks), (uint32_t)ROOM / CALLS);
    cr_expect_not(expect_known(&expect, KIND));
}

/* However many a connection may have, they are side by side in the end. */
Test(expect, as_many_as_may_be)
{
    bool shrinks;
    size_at(1, &shrinks);
    cr_expect_eq(expect_size(&expect, KIND, ROOM, 1024, 1000000, &shrinks), (uint32_t)ROOM / 1024);
    cr_expect_eq(expect_size(&expect, KIND, ROOM, 2, 1000000, &shrinks), (uint32_t)ROOM / 64);
    cr_expect_eq(expect_size(&expect, KIND, 1, 65536, 1000000, &shrinks), 0U);
    cr_expect_not(shrinks);
}

Test(expect, what_was_answered_is_expected)
{
    bool shrinks = true;
    expect_answered(&expect, KIND, 1000000);
    cr_expect(expect_known(&expect, KIND));
    cr_expect_eq(size_at(1, &shrinks), 1000000U);
    cr_expect_not(shrinks);
    expect_answered(&expect, KIND, 2000000);
    cr_expect_eq(size_at(1, &shrinks), 2000000U, "a larger one counts at once");
    expect_answered(&expect, KIND, 400000);
    cr_expect_eq(size_at(1, &shrinks), 1900000U, "a smaller one in part");
    for (int i = 0; i < 300; i++)
        expect_answered(&expect, KIND, 400000);
    cr_expect_eq(size_at(1, &shrinks), 400000U, "and then all");
}

Test(expect, at_its_limits)
{
    bool shrinks;
    expect_answered(&expect, KIND, 0);
    cr_expect(expect_known(&expect, KIND), "an answer of nothing is known, too");
    cr_expect_eq(size_at(1, &shrinks), 1U);
    expect_answered(&expect, KIND, SIZE_MAX);
    cr_expect_eq(size_at(1, &shrinks), UINT32_MAX);
}

/* The parts of one that is still coming. */
Test(expect, at_least)
{
    bool shrinks;
    expect_at_least(&expect, KIND, 300000);
    cr_expect_eq(size_at(1, &shrinks), 300000U);
    expect_at_least(&expect, KIND, 200000);
    cr_expect_eq(size_at(1, &shrinks), 300000U);
    expect_at_least(&expect, KIND, 300001);
    cr_expect_eq(size_at(1, &shrinks), 300001U);
}

Test(expect, kinds)
{
    static const char *const names[] = {"", "a", "b", "ab", "ba", "demo.echo", "demo.sleep",
        "orders.create", "orders.cancel", "/", "/a/rather/long/path/1", "/a/rather/long/path/2",
        "/b/rather/long/path/1"};
    unsigned same = 0;
    for (uint32_t pool = 0; pool < 2; pool++) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct span name = {names[i], strlen(names[i])};
            uint16_t kind = expect_kind(SEED, pool, name);
            cr_expect_lt(kind, EXPECT_KINDS);
            cr_expect_eq(expect_kind(SEED, pool, name), kind);
            for (size_t j = 0; j < i; j++)
                same += expect_kind(SEED, pool, (struct span){names[j], strlen(names[j])}) == kind;
            same += pool == 1 && expect_kind(SEED, 0, name) == kind;
        }
    }
    cr_expect_leq(same, 3U, "%u share a place", same);
    unsigned moved = 0;
    for (uint64_t seed = 0; seed < 64; seed++)
        moved += expect_kind(seed, 0, SPAN("demo.echo")) !=
                 expect_kind(seed + 1, 0, SPAN("demo.echo"));
    cr_expect_geq(moved, 60U, "places cannot be known beforehand");
}
