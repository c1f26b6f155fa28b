#include <criterion/criterion.h>

#include "frontd/shard/upstream/balance.h"

enum { WORKERS_MAX = 8, DRAWS = 20000 };

struct row {
    uint32_t load;
    uint32_t concurrency; /* 0: no limit */
    bool unusable;
    bool other_methods;
};

static bool takes(const struct row *row)
{
    return !row->unusable && !row->other_methods && balance_has_slot(row->load, row->concurrency);
}

/* As a pool does: the worker that gets a call when these two are drawn; n: none does. */
static uint32_t choose(const struct row *rows, uint32_t n, struct balance_pair pair)
{
    struct balance_order order = balance_order(n, pair,
        (struct balance_load){rows[pair.one].load, 1},
        (struct balance_load){rows[pair.other].load, 1});
    uint32_t at;
    while ((at = balance_next(&order)) != BALANCE_NONE) {
        if (takes(&rows[at]))
            return at;
    }
    return n;
}

Test(balance, chooses_by_table)
{
    static const struct {
        const char *what;
        uint32_t n;
        struct row rows[WORKERS_MAX];
        struct balance_pair pair;
        uint32_t chosen;
    } cases[] = {
        {"the only one", 1, {{.load = 9}}, {0, 0}, 0},
        {"the only one is full", 1, {{.load = 2, .concurrency = 2}}, {0, 0}, 1},
        {"the first drawn is less loaded", 3, {{.load = 1}, {.load = 0}, {.load = 2}}, {0, 2}, 0},
        {"the second drawn is less loaded", 3, {{.load = 3}, {.load = 0}, {.load = 2}}, {0, 2}, 2},
        {"those not drawn are not looked at", 3, {{.load = 3}, {.load = 0}, {.load = 3}}, {2, 0},
            2},
        {"a tie is the first drawn's", 3, {{.load = 1}, {.load = 1}, {.load = 1}}, {1, 0}, 1},
        {"a tie is the first drawn's, the other way", 3, {{.load = 1}, {.load = 1}, {.load = 1}},
            {0, 1}, 0},
        {"one free slot", 2, {{.load = 3, .concurrency = 4}, {.load = 4}}, {0, 1}, 0},
        {"full: the next by number", 4,
            {{.load = 5}, {.load = 1, .concurrency = 1}, {.load = 7}, {.load = 0}}, {1, 2}, 2},
        {"full: round the end", 3, {{.load = 5}, {.load = 9}, {.load = 1, .concurrency = 1}},
            {1, 2}, 0},
        {"unusable: the next", 3, {{.load = 5}, {.unusable = true}, {.load = 7}}, {1, 0}, 2},
        {"other methods: the next", 3, {{.other_methods = true}, {.load = 3}, {.load = 0}}, {0, 1},
            1},
        {"only one takes it", 4,
            {{.unusable = true}, {.load = 1, .concurrency = 1}, {.other_methods = true},
                {.load = 90}},
            {0, 1}, 3},
        {"none takes it", 3,
            {{.unusable = true}, {.load = 1, .concurrency = 1}, {.other_methods = true}}, {0, 1},
            3},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_expect_eq(
            choose(cases[i].rows, cases[i].n, cases[i].pair), cases[i].chosen, "%s", cases[i].what);
}

Test(balance, order_has_each_worker_once)
{
    for (uint32_t n = 1; n <= WORKERS_MAX; n++) {
        for (uint32_t first = 0; first < n; first++) {
            struct balance_order order = balance_order(n, (struct balance_pair){first, first},
                (struct balance_load){1, 1}, (struct balance_load){1, 1});
            for (uint32_t i = 0; i < n; i++)
                cr_expect_eq(balance_next(&order), (first + i) % n);
            cr_expect_eq(balance_next(&order), BALANCE_NONE);
            cr_expect_eq(balance_next(&order), BALANCE_NONE);
        }
    }
}

/* Every pair of two different workers is drawn, each about as often. */
Test(balance, draws_evenly)
{
    uint64_t random = 0x1234567;
    for (uint32_t n = 2; n <= 5; n++) {
        unsigned counts[WORKERS_MAX][WORKERS_MAX] = {{0}};
        unsigned share = DRAWS / (n * (n - 1));
        for (unsigned i = 0; i < DRAWS; i++) {
            struct balance_pair pair = balance_draw(&random, n);
            cr_assert(pair.one < n && pair.other < n);
            counts[pair.one][pair.other]++;
        }
        for (uint32_t one = 0; one < n; one++) {
            for (uint32_t other = 0; other < n; other++) {
                unsigned count = counts[one][other];
                if (one == other)
                    cr_expect_eq(count, 0);
                else
                    cr_expect(count > share * 8 / 10 && count < share * 12 / 10, "%u of %u: %u",
                        one, n, count);
            }
        }
    }
}

Test(balance, one_worker_needs_no_draw)
{
    uint64_t random = 7;
    struct balance_pair pair = balance_draw(&random, 1);
    cr_expect(pair.one == 0 && pair.other == 0 && random == 7);
}

static const uint64_t ranks[] = {
    0x1111111111111111, 0x2222222222222222, 0x8000000000000001, 0xdeadbeefcafef00d, 5};

/* skip: a worker that is not there, or does not take the call. order: of offering. */
static uint32_t choose_by_hash(uint64_t hash, uint32_t skip, bool backwards)
{
    struct balance_hash best = balance_hash(hash);
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t at = backwards ? 4 - i : i;
        if (at != skip)
            balance_offer(&best, at, ranks[at], 1);
    }
    return best.at;
}

/* These are known to all shards, of whatever version: a key goes where it went before. */
Test(balance, hash_gives_what_it_always_gave)
{
    static const struct {
        uint64_t hash;
        uint32_t at;
    } cases[] = {{0x0, 3}, {0x1, 1}, {0x2, 0}, {0x3, 0}, {0x123456789abcdef, 1},
        {0xffffffffffffffff, 0}, {0x8000000000000000, 3}, {0x2a, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_expect_eq(choose_by_hash(cases[i].hash, BALANCE_NONE, false), cases[i].at, "%zu: %u", i,
            choose_by_hash(cases[i].hash, BALANCE_NONE, false));
}

Test(balance, hash_spreads_and_moves_only_what_it_must)
{
    unsigned counts[5] = {0};
    for (uint64_t hash = 1; hash <= DRAWS; hash++) {
        uint64_t key = hash * 0x9e3779b97f4a7c15ULL;
        uint32_t at = choose_by_hash(key, BALANCE_NONE, false);
        counts[at]++;
        cr_assert_eq(choose_by_hash(key, BALANCE_NONE, true), at, "the order does not matter");
        for (uint32_t gone = 0; gone < 5; gone++) {
            if (gone != at)
                cr_assert_eq(choose_by_hash(key, gone, false), at);
            else
                cr_assert_neq(choose_by_hash(key, gone, false), at);
        }
    }
    for (uint32_t i = 0; i < 5; i++)
        cr_expect(counts[i] > DRAWS / 10 && counts[i] < DRAWS / 3, "%u: %u", i, counts[i]);
}

Test(balance, hash_without_workers_gives_none)
{
    cr_expect_eq(balance_hash(1).at, BALANCE_NONE);
}

enum { MANY = 64, CALLS = 6 * MANY };

static const struct {
    uint64_t total;
    uint32_t n;
    uint64_t bound;
} bounds[] = {{0, 1, 2}, {0, 2, 1}, {0, 4, 1}, {3, 4, 2}, {2, 4, 1}, {7, 2, 5}, {6, 2, 5},
    {99, 10, 13}, {UINT32_MAX, 1, 5368709120}};

Test(balance, bound_by_table)
{
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
        cr_expect_eq(balance_bound(bounds[i].total, 1, bounds[i].n), bounds[i].bound, "%zu", i);
}

static uint64_t scramble(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* The worker of a key; skip: one that is not there. load: NULL: without a bound. */
static uint32_t bounded(
    uint64_t key, uint32_t n, uint32_t skip, const uint32_t *load, uint64_t bound)
{
    struct balance_hash best = balance_hash(key);
    for (uint32_t i = 0; i < n; i++) {
        if (i != skip && (load == NULL || load[i] < bound))
            balance_offer(&best, i, (i + 1) * 0x9e3779b97f4a7c15ULL, 1);
    }
    return best.at;
}

/*
 * Calls come and end at random, of random keys and of one that is half of them: a worker that gets
 * one has never more than 1.25 times the mean, and there is always one that may.
 */
Test(balance, no_worker_is_above_the_bound)
{
    for (uint32_t n = 1; n <= MANY; n++) {
        uint64_t seed = n;
        uint32_t load[MANY] = {0};
        uint32_t at[CALLS];
        uint32_t total = 0;
        for (unsigned i = 0; i < 2000; i++) {
            if (total == CALLS || (total > 0 && scramble(&seed) % 5 < 2)) {
                uint32_t ended = (uint32_t)(scramble(&seed) % total);
                load[at[ended]]--;
                at[ended] = at[--total];
                continue;
            }
            uint64_t key = scramble(&seed) % 2 == 0 ? 7 : scramble(&seed);
            uint32_t chosen = bounded(key, n, n, load, balance_bound(total, 1, n));
            cr_assert_neq(chosen, BALANCE_NONE);
            at[total++] = chosen;
            load[chosen]++;
            cr_assert_lt((load[chosen] - 1) * 4 * n, 5 * total, "%u of %u", load[chosen], total);
        }
    }
}

/* Of keys placed one after the other few move when a worker goes: its own, and what these displace.
 */
Test(balance, few_keys_move_when_a_worker_goes)
{
    enum { N = 16, KEYS = 3200 };
    uint32_t before[N] = {0};
    uint32_t after[N] = {0};
    unsigned moved = 0;
    uint64_t seed = 99;
    for (uint32_t i = 0; i < KEYS; i++) {
        uint64_t key = scramble(&seed);
        uint32_t one = bounded(key, N, N, before, balance_bound(KEYS - 1, 1, N));
        uint32_t two = bounded(key, N, 3, after, balance_bound(KEYS - 1, 1, N - 1));
        before[one]++;
        after[two]++;
        moved += one != two;
    }
    cr_expect(moved >= before[3] && moved < KEYS * 2 / N, "%u of %u, %u were its own", moved, KEYS,
        before[3]);
}

Test(balance, part_by_table)
{
    static const struct {
        uint64_t age;
        uint64_t ramp;
        uint32_t part;
    } rows[] = {{0, 0, 10000}, {0, 10000, 1000}, {999, 10000, 1000}, {1000, 10000, 1000},
        {1001, 10000, 1001}, {5000, 10000, 5000}, {9999, 10000, 9999}, {10000, 10000, 10000},
        {UINT64_MAX, 10000, 10000}, {0, 1, 1000}, {1, 1, 10000}, {3599999, 3600000, 9999}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_eq(balance_part(rows[i].age, rows[i].ramp), rows[i].part, "%zu: %u", i,
            balance_part(rows[i].age, rows[i].ramp));
}

Test(balance, calls_by_part)
{
    static const struct {
        uint32_t part;
        uint32_t most;
    } rows[] = {{1000, 10000}, {5000, 10000}, {9999, 10000}, {1000, 2000}};
    uint64_t random = 0x1234567;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned count = 0;
        unsigned expected = DRAWS * rows[i].part / rows[i].most;
        for (unsigned n = 0; n < DRAWS; n++)
            count += balance_may_have(&random, rows[i].part, rows[i].most);
        cr_expect(count > expected * 9 / 10 && count < expected * 11 / 10, "%zu: %u", i, count);
    }
    random = 7;
    for (uint32_t most = 1000; most <= 10000; most += 3000)
        cr_expect(balance_may_have(&random, most, most));
    cr_expect_eq(random, 7u, "nothing is drawn where all are alike");
}

/* Of two that were drawn, the one with less load for its weight. */
Test(balance, loads_count_by_weight)
{
    static const struct {
        struct balance_load one, other;
        uint32_t first;
    } rows[] = {
        {{0, 1}, {0, 3}, 0},
        {{1, 1}, {2, 3}, 1},
        {{1, 1}, {3, 3}, 0},
        {{1, 1}, {4, 3}, 0},
        {{5, 3}, {2, 1}, 0},
        {{6, 3}, {1, 1}, 1},
        {{UINT32_MAX, 100}, {UINT32_MAX - 1, 100}, 1},
        {{UINT32_MAX, 1}, {5, 100}, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct balance_order order = balance_order(
            2, (struct balance_pair){0, 1}, rows[i].one, rows[i].other);
        cr_expect_eq(balance_next(&order), rows[i].first, "%zu", i);
    }
}

Test(balance, tickets_are_below_their_number)
{
    uint64_t random = 99;
    unsigned counts[7] = {0};
    for (unsigned i = 0; i < DRAWS; i++) {
        uint32_t ticket = balance_ticket(&random, 7);
        cr_assert_lt(ticket, 7u);
        counts[ticket]++;
    }
    for (uint32_t i = 0; i < 7; i++)
        cr_expect(
            counts[i] > DRAWS / 7 * 9 / 10 && counts[i] < DRAWS / 7 * 11 / 10, "%u", counts[i]);
}

/* A worker has as many hashes as its weight says; a greater weight takes some to it, and moves no
 * other. */
Test(balance, hashes_by_weight)
{
    static const uint32_t weights[] = {1, 2, 5, 1};
    enum { KEYS = 45000, ALL = 9 };
    uint32_t counts[4] = {0};
    uint64_t seed = 5;
    for (unsigned i = 0; i < KEYS; i++) {
        uint64_t key = scramble(&seed);
        struct balance_hash best = balance_hash(key);
        struct balance_hash more = balance_hash(key);
        for (uint32_t at = 0; at < 4; at++) {
            balance_offer(&best, at, ranks[at], weights[at]);
            balance_offer(&more, at, ranks[at], weights[at] + (at == 1));
        }
        counts[best.at]++;
        cr_assert(more.at == best.at || more.at == 1);
    }
    for (uint32_t at = 0; at < 4; at++) {
        uint32_t wanted = KEYS / ALL * weights[at];
        cr_expect(counts[at] > wanted * 9 / 10 && counts[at] < wanted * 11 / 10, "%u: %u", at,
            counts[at]);
    }
}

Test(balance, bounds_by_weight)
{
    cr_expect_eq(balance_bound(0, 3, 4), 1u);
    cr_expect_eq(balance_bound(7, 3, 4), 8u);
    cr_expect_eq(balance_bound(7, 1, 4), 3u);
    cr_expect_eq(balance_bound(UINT32_MAX, 100, 100), balance_bound(UINT32_MAX, 1, 1));
}
