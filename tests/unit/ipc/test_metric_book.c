#include <criterion/criterion.h>

#include "frontd/ipc/metric_book.h"
#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"

enum { OLD = 3, NEW = 7, OTHER = 9, ROW = 2 };

static struct listener_words *old;
static struct listener_words *new;

static void set_up(void)
{
    make_memory_of_test();
    old = metric_row(share, OLD, METRIC_KIND_listener, ROW);
    new = metric_row(share, NEW, METRIC_KIND_listener, ROW);
    share_count(old->accepted, 10);
}

TestSuite(metric_book, .init = set_up, .fini = unmap_memory_of_test);

static uint64_t closed(const struct listener_words *words)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(words->closed); i++)
        n += words->closed[i];
    return n;
}

static uint64_t crashed(const struct listener_words *words, enum metric_protocol protocol)
{
    return words->closed[protocol * METRIC_REASON_COUNT + METRIC_REASON_CRASH];
}

/* What is accepted is what is closed and what the two have, at any moment. */
static void expect(uint64_t of_old, uint64_t of_new, uint64_t all_closed)
{
    cr_expect_eq(metric_open(share, OLD, ROW), of_old);
    cr_expect_eq(metric_open(share, NEW, ROW), of_new);
    cr_expect_eq(closed(old) + closed(new), all_closed);
    struct metric_totals totals = metric_totals(share);
    cr_expect_eq(totals.accepted, 10u);
    cr_expect_eq(totals.closed, all_closed);
}

static const uint64_t nobody = 0;
static const uint64_t both = UINT64_C(1) << OLD | UINT64_C(1) << NEW;
static const uint64_t new_alone = UINT64_C(1) << NEW;
static const uint64_t old_alone = UINT64_C(1) << OLD;

Test(metric_book, a_shard_that_ends)
{
    share_count(&old->closed[METRIC_REASON_DONE], 4);
    share_set(&old->speaking[METRIC_PROTOCOL_WEBSOCKET], 5);
    cr_expect_not(metric_book(share, both));
    expect(6, 0, 4);
    cr_expect_not(metric_book(share, new_alone));
    expect(0, 0, 10);
    cr_expect(
        crashed(old, METRIC_PROTOCOL_WEBSOCKET) == 5 && crashed(old, METRIC_PROTOCOL_FIRST) == 1);
    cr_expect_eq(old->speaking[METRIC_PROTOCOL_WEBSOCKET], 0u);
    cr_expect_not(metric_book(share, nobody), "once is enough");
    expect(0, 0, 10);
}

/* One move of 4 connections, cut by the end of one of the two after each step. */
static void move(unsigned steps)
{
    if (steps > 0)
        share_count(&new->arriving[OLD], 4);
    if (steps > 1)
        share_count(&new->arrived[OLD], 4);
    if (steps > 2)
        share_set(&new->arriving[OLD], 0);
    if (steps > 3)
        share_count(&old->departed[NEW], 4);
}

Test(metric_book, the_old_one_ends)
{
    for (unsigned steps = 0; steps <= 4; steps++) {
        if (steps > 0) {
            unmap_memory_of_test();
            set_up();
        }
        move(steps);
        bool rest = metric_book(share, new_alone);
        cr_expect_eq(rest, steps == 1 || steps == 2);
        if (steps == 1) { /* nobody knows yet: they are still counted as the old one's */
            expect(4, 0, 6);
            cr_expect(metric_book(share, new_alone), "for however long");
            expect(4, 0, 6);
            share_count(&new->arrived[OLD], 4);
        }
        if (rest) {
            share_set(&new->arriving[OLD], 0);
            cr_expect_not(metric_book(share, new_alone));
        }
        if (steps == 0)
            expect(0, 0, 10);
        else
            expect(0, 4, 6);
        metric_book(share, nobody);
        expect(0, 0, 10);
    }
}

/* The new one says at last that it has not got them. */
Test(metric_book, the_old_one_ends_and_the_new_one_has_nothing)
{
    move(1);
    cr_expect(metric_book(share, new_alone));
    share_set(&new->arriving[OLD], 0);
    cr_expect_not(metric_book(share, new_alone));
    expect(0, 0, 10);
}

Test(metric_book, the_new_one_ends)
{
    for (unsigned steps = 0; steps <= 4; steps++) {
        if (steps > 0) {
            unmap_memory_of_test();
            set_up();
        }
        move(steps);
        cr_expect_not(metric_book(share, old_alone));
        bool has = steps >= 2;
        expect(has ? 6 : 10, 0, has ? 4 : 0);
        cr_expect_eq(new->arriving[OLD], 0u);
        metric_book(share, nobody);
        expect(0, 0, 10);
    }
}

/* It has taken them, and said so, and ends before it has counted that. */
Test(metric_book, the_new_one_ends_before_it_counts)
{
    move(1);
    cr_expect_not(metric_book(share, old_alone));
    expect(10, 0, 0);
    share_count(&old->departed[NEW], 4); /* it hears of it now */
    expect(6, 4, 0);
    cr_expect_not(metric_book(share, old_alone));
    expect(6, 0, 4);
    /* The next process on the seat goes on with what was settled. */
    share_count(&new->arriving[OLD], 6);
    share_count(&new->arrived[OLD], 6);
    share_set(&new->arriving[OLD], 0);
    expect(0, 6, 4);
    share_count(&old->departed[NEW], 6);
    expect(0, 6, 4);
}

Test(metric_book, requests_and_calls)
{
    struct route_words *route = metric_row(share, OLD, METRIC_KIND_route, 1);
    struct pair_words *pair = metric_row(share, OLD, METRIC_KIND_pair, 1);
    share_count(route->received, 7);
    share_count(&route->ended[METRIC_CLASS_CALL * METRIC_CODE_COUNT + METRIC_CODE_OK], 4);
    share_count(pair->started, 3);
    share_count(&pair->ended[METRIC_CODE_APP], 1);
    share_reclaim(share, old_alone);
    const _Atomic uint64_t *crash =
        &route->ended[METRIC_CLASS_OTHER * METRIC_CODE_COUNT + METRIC_CODE_CRASH];
    cr_expect(*crash == 0 && pair->ended[METRIC_CODE_CRASH] == 0);
    for (unsigned i = 0; i < 2; i++) {
        share_reclaim(share, new_alone);
        cr_expect(*crash == 3 && pair->ended[METRIC_CODE_CRASH] == 2);
    }
}

/* Gauges are of a process; counters and the supervisor's own words stay. */
Test(metric_book, gauges)
{
    share_set(&share_shard(share, OLD)->memory[0], 5);
    share_set(share_front(share, OLD)->incarnation, 5);
    share_count(share_front(share, OLD)->dropped, 5);
    share_set(share_front(share, SHARE_SEAT_SUPERVISOR)->config_at, 5);
    cr_expect_eq(metric_shards(share), 1u);
    metric_book(share, nobody);
    cr_expect_eq(share_shard(share, OLD)->memory[0], 0u);
    cr_expect_eq(*share_front(share, OLD)->dropped, 5u);
    cr_expect_eq(*share_front(share, SHARE_SEAT_SUPERVISOR)->config_at, 5u);
    cr_expect_eq(metric_shards(share), 0u);
}
