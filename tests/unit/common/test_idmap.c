#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "common/alloc.h"
#include "common/idmap.h"

enum { COUNT = 10000 };

static struct idmap_node nodes[COUNT];

Test(idmap, finds_what_was_added)
{
    struct idmap map;
    cr_assert_eq(idmap_init(&map), 0);
    cr_assert_null(idmap_find(&map, 0));
    for (size_t i = 0; i < COUNT; i++) {
        nodes[i].id = UINT64_MAX - COUNT + i * 3; /* passes the end of the numbers */
        idmap_add(&map, &nodes[i]);
    }
    cr_assert_eq(map.count, (size_t)COUNT);
    cr_assert_geq(map.mask, (size_t)COUNT / 2, "chains stay short");
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert_eq(idmap_find(&map, nodes[i].id), &nodes[i]);
        cr_assert_null(idmap_find(&map, nodes[i].id + 1));
    }
    for (size_t i = 0; i < COUNT; i += 2)
        idmap_remove(&map, &nodes[i]);
    for (size_t i = 0; i < COUNT; i++)
        cr_assert_eq(idmap_find(&map, nodes[i].id), i % 2 == 0 ? NULL : &nodes[i]);
    for (size_t i = 1; i < COUNT; i += 2)
        idmap_remove(&map, &nodes[i]);
    idmap_deinit(&map);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

/* What a lookup has to look at: the squares of the chains' lengths, summed, over the nodes. */
static void measure(const struct idmap *map, size_t *ret_longest, double *ret_looked_at)
{
    size_t squares = 0;
    *ret_longest = 0;
    for (size_t i = 0; i <= map->mask; i++) {
        size_t n = 0;
        for (const struct idmap_node *node = map->buckets[i]; node != NULL; node = node->next)
            n++;
        *ret_longest = MAX(*ret_longest, n);
        squares += n * n;
    }
    *ret_looked_at = (double)squares / (double)map->count;
}

static uint64_t survivor_of_reloads(size_t i)
{
    /* 50 of each of 200 shards that count from 1, all with the same low bits. */
    return (uint64_t)(0x12345 + i / 50) << 32 | (i % 50 + 1);
}

static uint64_t every_4096th(size_t i)
{
    return (uint64_t)i << 12;
}

static uint64_t in_high_bits(size_t i)
{
    return (uint64_t)i << 50;
}

static uint64_t counting(size_t i)
{
    return i + 1;
}

static uint64_t scattered(size_t i)
{
    uint64_t x = (i + 1) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
    return x ^ x >> 31;
}

Test(idmap, chains_are_short_whatever_the_numbers_are)
{
    uint64_t (*const kinds[])(size_t i) = {
        survivor_of_reloads, every_4096th, in_high_bits, counting, scattered};
    for (size_t kind = 0; kind < ARRAY_LEN(kinds); kind++) {
        struct idmap map;
        size_t longest;
        double looked_at;
        cr_assert_eq(idmap_init(&map), 0);
        for (size_t i = 0; i < COUNT; i++) {
            nodes[i].id = kinds[kind](i);
            idmap_add(&map, &nodes[i]);
        }
        measure(&map, &longest, &looked_at);
        /* Two to a bucket at most: random ones have up to 10 or so, and 3 on average. */
        cr_expect_leq(longest, (size_t)16, "kind %zu: %zu", kind, longest);
        cr_expect_leq(looked_at, 4.0, "kind %zu: %f", kind, looked_at);
        for (size_t i = 0; i < COUNT; i++) {
            cr_assert_eq(idmap_find(&map, nodes[i].id), &nodes[i]);
            idmap_remove(&map, &nodes[i]);
        }
        idmap_deinit(&map);
    }
}

Test(idmap, takes_those_above_the_highest_first)
{
    static const size_t counts[] = {0, 1, 2, 3, 7, 64, 1000, COUNT};
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct idmap map;
        uint64_t floor = counts[c] / 3;
        cr_assert_eq(idmap_init(&map), 0);
        for (size_t i = 0; i < counts[c]; i++) {
            nodes[i].id = i * 7919 % counts[c] + 1; /* each of 1 to the count, in another order */
            idmap_add(&map, &nodes[i]);
        }
        const struct idmap_node *node = idmap_take_above(&map, floor);
        for (uint64_t id = counts[c]; id > floor; id--, node = node->next) {
            cr_assert_not_null(node);
            cr_assert_eq(node->id, id);
        }
        cr_assert_null(node);
        cr_assert_eq(map.count, (size_t)floor);
        cr_assert_eq(idmap_find(&map, floor + 1), NULL);
        cr_assert_null(idmap_take_above(&map, floor));
        node = idmap_take_above(&map, 0);
        cr_assert_eq(node == NULL ? 0 : node->id, floor);
        idmap_deinit(&map);
    }
}

static void count(struct idmap_node *node, void *seen)
{
    ((unsigned char *)seen)[node->id]++;
}

Test(idmap, each_is_visited_once)
{
    enum { ALL = 300 };
    for (size_t n = 0; n <= ALL; n += 100) {
        unsigned char seen[ALL] = {0};
        struct idmap map;
        cr_assert_eq(idmap_init(&map), 0);
        for (size_t i = 0; i < n; i++) {
            nodes[i].id = i;
            idmap_add(&map, &nodes[i]);
        }
        idmap_each(&map, count, seen);
        for (size_t i = 0; i < ALL; i++)
            cr_assert_eq(seen[i], i < n);
        cr_assert_eq(map.count, n);
        for (size_t i = 0; i < n; i++)
            idmap_remove(&map, &nodes[i]);
        idmap_deinit(&map);
    }
}

Test(idmap, without_memory_chains_get_longer)
{
    struct idmap map;
    mem_fail_after(0);
    cr_assert_eq(idmap_init(&map), -ENOMEM);
    cr_assert_eq(idmap_init(&map), 0);
    size_t mask = map.mask;
    for (size_t i = 0; i < 1000; i++) {
        nodes[i].id = i;
        mem_fail_after(0);
        idmap_add(&map, &nodes[i]);
    }
    mem_fail_after(-1);
    cr_assert_eq(map.mask, mask);
    for (size_t i = 0; i < 1000; i++) {
        cr_assert_eq(idmap_find(&map, i), &nodes[i]);
        idmap_remove(&map, &nodes[i]);
    }
    idmap_deinit(&map);
}

Test(idmap, removing_what_is_not_there_is_a_bug, .signal = SIGABRT)
{
    struct idmap map;
    struct idmap_node node = {.id = 1};
    cr_assert_eq(idmap_init(&map), 0);
    idmap_remove(&map, &node);
}
