#include <criterion/criterion.h>
#include <errno.h>

#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"

TestSuite(shm_queues, .init = make_memory_of_test, .fini = unmap_memory_of_test);

Test(shm_queues, pools_keep_their_rows)
{
    cr_assert_eq(share_pool(share, "a"), -ENOENT);
    share_set_pools(share, (const char *const[]){"a", "b", "c"}, 3);
    int a = share_pool(share, "a");
    int b = share_pool(share, "b");
    int c = share_pool(share, "c");
    cr_assert(a >= 0 && b >= 0 && c >= 0 && a != b && b != c && a != c);
    cr_assert_eq(share_pool(share, "ab"), -ENOENT);
    cr_assert_eq(share_pool(share, ""), -ENOENT);
    cr_assert(share_queue_add(share, 3, (unsigned)c, 1));
    share_set_pools(share, (const char *const[]){"d", "c", "a", "e"}, 4);
    cr_assert_eq(share_pool(share, "a"), a);
    cr_assert_eq(share_pool(share, "c"), c);
    cr_assert_eq(share_pool(share, "b"), -ENOENT);
    cr_assert(!share_queue_add(share, 3, (unsigned)c, 1), "with all that waits there");
    int d = share_pool(share, "d");
    int e = share_pool(share, "e");
    cr_assert(d >= 0 && e >= 0 && d != e && d != a && d != c && e != a && e != c);
    cr_assert(d == b || e == b, "a row that was given up is used again");
    share_set_pools(share, NULL, 0);
    cr_assert_eq(share_pool(share, "a"), -ENOENT);
    /* One that is named twice has one row. */
    share_set_pools(share, (const char *const[]){"x", "x", "y", "x"}, 4);
    cr_assert(share_pool(share, "x") >= 0 && share_pool(share, "x") != share_pool(share, "y"));
    share_queue_remove(share, 3, (unsigned)c);
}

Test(shm_queues, pools_that_seats_reach)
{
    share_set_pools(share, (const char *const[]){"a", "b"}, 2);
    unsigned a = (unsigned)share_pool(share, "a");
    unsigned b = (unsigned)share_pool(share, "b");
    share_pool_set_reached(share, 0, a, true);
    share_pool_set_reached(share, SHARE_SEAT_LAST, a, true);
    share_pool_set_reached(share, 5, a, true);
    share_pool_set_reached(share, 5, b, true);
    share_pool_set_reached(share, 5, a, false);
    cr_assert_eq(share_pool_reached(share, a), share_seat_bit(0) | share_seat_bit(SHARE_SEAT_LAST));
    cr_assert_eq(share_pool_reached(share, b), share_seat_bit(5));
    share_reclaim(share, share_seat_bit(0));
    cr_assert_eq(share_pool_reached(share, a), share_seat_bit(0), "not those that have ended");
    cr_assert_eq(share_pool_reached(share, b), 0u);
    share_set_pools(share, (const char *const[]){"b", "c"}, 2);
    cr_assert_eq(share_pool(share, "c"), (int)a);
    cr_assert_eq(share_pool_reached(share, a), 0u, "a row that is used again is empty");
}

Test(shm_queues, all_the_pools_there_can_be)
{
    enum { HALF = SHARE_POOLS / 2 };
    bool seen[SHARE_POOLS] = {false};
    int rows[SHARE_POOLS];
    share_set_pools(share, pool_names(0, SHARE_POOLS), SHARE_POOLS);
    for (size_t i = 0; i < SHARE_POOLS; i++) {
        rows[i] = share_pool(share, pool_names(0, SHARE_POOLS)[i]);
        cr_assert(rows[i] >= 0 && rows[i] < SHARE_POOLS && !seen[rows[i]]);
        seen[rows[i]] = true;
    }
    /* Generation after generation, half of the pools being new each time. */
    for (unsigned first = 0; first < 20 * HALF; first += HALF) {
        share_set_pools(share, pool_names(first, SHARE_POOLS), SHARE_POOLS);
        for (size_t i = 0; i < SHARE_POOLS; i++) {
            int row = share_pool(share, pool_names(first, SHARE_POOLS)[i]);
            cr_assert_eq(row, rows[(first + i) % SHARE_POOLS], "pool %zu", first + i);
        }
        /* Those of the second half take the rows that those before the first have given up. */
        const char *const *next = pool_names(first + HALF, SHARE_POOLS);
        share_set_pools(share, next, SHARE_POOLS);
        for (size_t i = HALF; i < SHARE_POOLS; i++) {
            int row = share_pool(share, next[i]);
            cr_assert_geq(row, 0);
            rows[(first + HALF + i) % SHARE_POOLS] = row;
        }
    }
}

Test(shm_queues, queues)
{
    for (uint32_t limit = 0; limit < 4; limit++) {
        for (uint32_t i = 0; i < limit; i++)
            cr_assert(share_queue_add(share, i, 5, limit));
        cr_assert(!share_queue_add(share, 0, 5, limit));
        cr_assert(!share_queue_add(share, SHARE_SEAT_LAST, 5, limit));
        cr_assert(share_queue_add(share, 0, 6, 1), "another pool's queue is another's");
        share_queue_remove(share, 0, 6);
        for (uint32_t i = 0; i < limit; i++)
            share_queue_remove(share, i, 5);
    }
    cr_assert(share_queue_add(share, 1, SHARE_POOLS - 1, 1));
    cr_assert(!share_queue_add(share, 0, SHARE_POOLS - 1, 1));
    share_reclaim(share, all_but(1));
    cr_assert(share_queue_add(share, 0, SHARE_POOLS - 1, 1));
}

Test(shm_queues, the_oldest_of_the_others)
{
    unsigned seat = 77;
    uint64_t since = 77;
    cr_assert(share_queue_add(share, 9, 0, 1)); /* so that seats up to 9 are looked at */
    cr_assert(!share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
    cr_assert(seat == 77 && since == 77, "outputs are untouched where none waits");
    share_queue_set_oldest(share, 0, 0, 100);
    cr_assert(!share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since), "not one's own");
    share_queue_set_oldest(share, 4, 0, 300);
    share_queue_set_oldest(share, 9, 0, 200);
    share_queue_set_oldest(share, 5, 1, 1);
    cr_assert(share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
    cr_assert(seat == 9 && since == 200);
    cr_assert(share_queue_oldest_but(share, share_seat_bit(9), 0, &seat, &since));
    cr_assert(seat == 0 && since == 100);
    share_queue_set_oldest(share, 9, 0, 0);
    cr_assert(share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
    cr_assert(seat == 4 && since == 300);
    share_reclaim(share, all_but(4));
    cr_assert(!share_queue_oldest_but(share, share_seat_bit(0), 0, &seat, &since));
}

Test(shm_queues, the_largest_of_all)
{
    unsigned seat = 77;
    cr_assert(share_queue_add(share, 9, 0, 1)); /* so that seats up to 9 are looked at */
    cr_assert_eq(share_queue_largest(share, 0, &seat), 0u);
    cr_assert_eq(seat, 77u);
    share_queue_set_largest(share, 3, 0, 5, 5);
    share_queue_set_largest(share, 9, 0, 6, 2);
    share_queue_set_largest(share, 5, 1, 7, 9);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 6u);
    cr_assert_eq(seat, 9u);
    cr_assert_eq(share_queue_waiting(share, 0), 1u);
    cr_assert_eq(share_queue_settle(share, 9, 0), 0u);
    share_queue_owe(share, 9, 0);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 6u);
    share_queue_owe(share, 9, 0);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 5u, "it owes all that it could give up");
    cr_assert_eq(seat, 3u);
    cr_assert_eq(share_queue_settle(share, 9, 0), 2u);
    cr_assert_eq(share_queue_settle(share, 9, 0), 0u);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 6u);
    share_queue_owe(share, 9, 0);
    share_reclaim(share, all_but(9));
    cr_assert_eq(share_queue_settle(share, 9, 0), 0u);
    cr_assert_eq(share_queue_waiting(share, 0), 0u);
    cr_assert_eq(share_queue_largest(share, 0, &seat), 5u);
    cr_assert_eq(seat, 3u);
}

/* A seat's queue: so many calls, of so many clients, of which the largest has so many. */
static void fill(unsigned seat, uint32_t queued, uint32_t clients, uint32_t largest)
{
    for (uint32_t i = 0; i < queued; i++)
        cr_assert(share_queue_add(share, seat, 3, UINT32_MAX));
    share_queue_set_largest(share, seat, 3, largest, queued - clients);
}

Test(shm_queues, how_many_go_before)
{
    cr_expect_eq(share_queue_ahead(share, 3, 0), 0u);
    fill(0, 5, 5, 1);
    cr_expect_eq(share_queue_ahead(share, 3, 0), 5u);
    cr_expect_eq(share_queue_ahead(share, 3, 9), 5u, "never more than wait");
    fill(2, 1003, 4, 1000);
    cr_expect_eq(share_queue_ahead(share, 3, 0), 5u + 4, "one of each");
    cr_expect_eq(share_queue_ahead(share, 3, 1), 5u + 5, "two of the one that has most");
    cr_expect_eq(share_queue_ahead(share, 3, 1000), 5u + 1003);
    share_queue_set_largest(share, 2, 3, UINT32_MAX, UINT32_MAX);
    cr_expect_eq(share_queue_ahead(share, 3, 0), 5u, "what cannot be is not believed");
}
