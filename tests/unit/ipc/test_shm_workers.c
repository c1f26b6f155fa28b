#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontd/ipc/shm_reclaim.h"
#include "frontd/ipc/shm_workers.h"
#include "tests/unit/support/shm.h"

static int get_worker(unsigned seat, unsigned number)
{
    return share_worker_get(share, seat, &number, sizeof(number));
}

TestSuite(shm_workers, .init = make_memory_of_test, .fini = unmap_memory_of_test);

Test(shm_workers, slots_up_to_the_limit)
{
    static const uint32_t limits[] = {1, 2, 64, 1000, SHARE_SLOTS};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const uint32_t limit = limits[i];
        int *slots = calloc(limit, sizeof(*slots));
        bool *seen = calloc(limit, sizeof(*seen));
        cr_assert(slots != NULL && seen != NULL);
        int workers[2] = {get_worker(1, 7), get_worker(2, 7)};
        cr_assert_eq(workers[0], workers[1], "both know it by the same number");
        for (uint32_t s = 0; s < limit; s++) {
            cr_assert(share_slot_take(share, 1 + s % 2, workers[0], limit, &slots[s]));
            cr_assert(slots[s] >= 0 && (uint32_t)slots[s] < limit && !seen[slots[s]]);
            seen[slots[s]] = true;
        }
        int none = 77;
        cr_assert(!share_slot_take(share, 1, workers[0], limit, &none));
        cr_assert(!share_slot_take(share, 2, workers[0], limit, &none));
        cr_assert_eq(none, 77);
        cr_assert_eq(share_worker_load(share, workers[0]), limit);
        for (uint32_t s = limit; s-- > 0;) {
            share_slot_give(share, 1 + s % 2, workers[0], slots[s]);
            cr_assert_eq(share_worker_load(share, workers[0]), s);
            if (s % 1000 == 0) { /* what was given back can be had again */
                cr_assert(share_slot_take(share, 1, workers[0], limit, &none));
                share_slot_give(share, 1, workers[0], none);
            }
        }
        share_worker_put(share, 1, workers[0]);
        share_worker_put(share, 2, workers[1]);
        free(slots);
        free(seen);
    }
}

Test(shm_workers, slots_beyond_the_most_there_are)
{
    int worker = get_worker(0, 1);
    int slot;
    for (unsigned i = 0; i < SHARE_SLOTS; i++)
        cr_assert(share_slot_take(share, 0, worker, UINT32_MAX, &slot));
    cr_assert(!share_slot_take(share, 0, worker, UINT32_MAX, &slot));
    cr_assert_eq(share_worker_load(share, worker), (uint32_t)SHARE_SLOTS);
    for (int i = 0; i < SHARE_SLOTS; i++)
        share_slot_give(share, 0, worker, i);
    share_worker_put(share, 0, worker);
}

Test(shm_workers, a_worker_without_a_limit)
{
    int worker = get_worker(3, 1);
    int slot = 0;
    for (uint32_t i = 1; i <= 100000; i++) {
        cr_assert(share_slot_take(share, 3, worker, 0, &slot));
        cr_assert_eq(slot, SHARE_SLOT_NONE);
    }
    cr_assert_eq(share_worker_load(share, worker), 100000u);
    for (uint32_t i = 1; i <= 100000; i++)
        share_slot_give(share, 3, worker, slot);
    cr_assert_eq(share_worker_load(share, worker), 0u);
    share_worker_put(share, 3, worker);
}

/* A worker that comes back with another concurrency: what is taken beyond it still counts. */
Test(shm_workers, a_limit_that_shrinks)
{
    int worker = get_worker(0, 1);
    int slots[8];
    int slot;
    for (unsigned i = 0; i < 8; i++)
        cr_assert(share_slot_take(share, 0, worker, 8, &slots[i]));
    for (unsigned i = 0; i < 6; i++) {
        cr_assert(!share_slot_take(share, 0, worker, 2, &slot));
        share_slot_give(share, 0, worker, slots[i]);
    }
    cr_assert(!share_slot_take(share, 0, worker, 2, &slot));
    share_slot_give(share, 0, worker, slots[6]);
    cr_assert(share_slot_take(share, 0, worker, 2, &slot));
    cr_assert_lt(slot, 2);
    share_slot_give(share, 0, worker, slot);
    share_slot_give(share, 0, worker, slots[7]);
    share_worker_put(share, 0, worker);
}

Test(shm_workers, calls_that_are_abandoned)
{
    int worker = get_worker(0, 1);
    int slots[3];
    for (unsigned i = 0; i < 3; i++)
        cr_assert(share_slot_take(share, 0, worker, 4, &slots[i]));
    cr_assert_eq(get_worker(SHARE_SEAT_LAST, 1), worker);
    cr_assert_eq(share_worker_awaited(share, worker), 3u);
    share_worker_add_abandoned(share, 0, worker, 1);
    share_worker_add_abandoned(share, 0, worker, 1);
    cr_assert_eq(share_worker_awaited(share, worker), 1u);
    cr_assert_eq(share_worker_load(share, worker), 3u, "they still hold their slots");
    int slot;
    cr_assert(share_slot_take(share, SHARE_SEAT_LAST, worker, 4, &slot));
    cr_assert_eq(share_worker_awaited(share, worker), 2u);
    share_worker_add_abandoned(share, 0, worker, -1);
    share_slot_give(share, 0, worker, slots[0]);
    cr_assert_eq(share_worker_awaited(share, worker), 2u);
    share_reclaim(share, all_but(0));
    cr_assert_eq(share_worker_awaited(share, worker), 1u);
    share_slot_give(share, SHARE_SEAT_LAST, worker, slot);
    share_worker_put(share, SHARE_SEAT_LAST, worker);
}

Test(shm_workers, workers_are_told_apart)
{
    int a = share_worker_get(share, 0, "a", 1);
    int b = share_worker_get(share, 0, "b", 1);
    int ab = share_worker_get(share, 0, "ab", 2);
    cr_assert(a >= 0 && b >= 0 && ab >= 0 && a != b && b != ab && a != ab);
    cr_assert_eq(share_worker_get(share, 0, "a", 1), a);
    share_worker_put(share, 0, a);
    cr_assert_eq(share_worker_get(share, 1, "a", 1), a, "it was got twice, so it is still there");
    share_worker_put(share, 0, a);
    share_worker_put(share, 1, a);
    share_worker_put(share, 0, b);
    share_worker_put(share, 0, ab);
}

Test(shm_workers, all_the_workers_there_can_be)
{
    for (unsigned round = 0; round < 3; round++) {
        bool seen[SHARE_WORKERS] = {false};
        int rows[SHARE_WORKERS];
        for (unsigned i = 0; i < SHARE_WORKERS; i++) {
            rows[i] = get_worker(i % 2, round * 100000 + i);
            cr_assert(rows[i] >= 0 && !seen[rows[i]]);
            seen[rows[i]] = true;
        }
        cr_assert_eq(get_worker(0, 99999), -ENOSPC);
        cr_assert_eq(get_worker(2, round * 100000 + 5), rows[5], "one that is there is found");
        share_worker_put(share, 2, rows[5]);
        share_worker_put(share, 1, rows[5]);
        rows[5] = get_worker(1, 99999);
        cr_assert_geq(rows[5], 0, "a row that was given back can be had");
        for (unsigned i = 0; i < SHARE_WORKERS; i++)
            share_worker_put(share, i % 2, rows[i]);
    }
}

/*
 * A shard that comes later finds a worker where the others have it, though rows before it are free.
 */
Test(shm_workers, a_worker_has_one_row)
{
    enum { ALL = 900 };
    int rows[ALL];
    for (unsigned i = 0; i < ALL; i++)
        rows[i] = get_worker(0, i);
    for (unsigned i = 0; i < ALL; i += 2)
        share_worker_put(share, 0, rows[i]);
    for (unsigned i = 1; i < ALL; i += 2) {
        cr_assert_eq(get_worker(1, i), rows[i]);
        share_worker_put(share, 1, rows[i]);
        share_worker_put(share, 0, rows[i]);
    }
}

/* Workers come and go for ever, a few at a time; each finds its row clean. */
Test(shm_workers, many_different_workers_over_time)
{
    enum { TOGETHER = 50, ALL = 100000 };
    int rows[TOGETHER];
    for (unsigned i = 0; i < ALL; i++) {
        unsigned at = i % TOGETHER;
        int slot;
        if (i >= TOGETHER)
            share_worker_put(share, 0, rows[at]);
        rows[at] = get_worker(0, i);
        cr_assert_geq(rows[at], 0);
        cr_assert_eq(share_worker_load(share, rows[at]), 0u);
        cr_assert(share_slot_take(share, 0, rows[at], 1, &slot));
        share_slot_give(share, 0, rows[at], slot);
    }
    for (unsigned i = 0; i < TOGETHER; i++)
        share_worker_put(share, 0, rows[i]);
}

Test(shm_workers, the_oldest_of_the_others_of_a_worker)
{
    unsigned seat = 77;
    uint64_t since = 77;
    int one = get_worker(9, 1);
    int two = get_worker(9, 2);
    cr_assert(!share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since));
    share_worker_set_oldest(share, 9, one, 200);
    cr_assert(
        !share_worker_oldest_but(share, share_seat_bit(9), one, &seat, &since), "not one's own");
    cr_assert(
        !share_worker_oldest_but(share, share_seat_bit(0), two, &seat, &since), "another worker's");
    cr_assert(seat == 77 && since == 77);
    cr_assert_eq(get_worker(4, 1), one);
    share_worker_set_oldest(share, 4, one, 100);
    cr_assert(share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since));
    cr_assert(seat == 4 && since == 100);
    share_reclaim(share, all_but(4));
    cr_assert(share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since));
    cr_assert(seat == 9 && since == 200);
    share_worker_put(share, 9, one);
    cr_assert_eq(get_worker(4, 3), get_worker(4, 3));
    cr_assert(
        !share_worker_oldest_but(share, share_seat_bit(0), one, &seat, &since), "the row is clean");
    share_worker_put(share, 9, two);
}

Test(shm_workers, what_goes_before_a_call)
{
    int one = get_worker(9, 1);
    int two = get_worker(9, 2);
    cr_assert_eq(get_worker(4, 1), one);
    share_worker_set_waiting(share, 9, one, (struct share_waiting){.calls = 100, .clients = 20});
    share_worker_set_waiting(share, 4, one, (struct share_waiting){.calls = 30, .clients = 30});
    static const uint64_t ahead[] = {50, 70, 90, 110, 130, 130};
    for (uint32_t own = 0; own < ARRAY_LEN(ahead); own++)
        cr_expect_eq(share_worker_ahead(share, one, own), ahead[own], "%u", own);
    cr_expect_eq(share_worker_ahead(share, one, UINT32_MAX), 130u);
    cr_expect_eq(share_worker_ahead(share, two, 7), 0u, "another worker's");
    share_reclaim(share, all_but(4));
    cr_expect_eq(share_worker_ahead(share, one, 0), 20u);
    share_worker_put(share, 9, one);
    cr_assert_eq(get_worker(9, 1), one);
    cr_expect_eq(share_worker_ahead(share, one, 0), 0u, "the row is clean");
    share_worker_put(share, 9, one);
    share_worker_put(share, 9, two);
}

Test(shm_workers, a_worker_that_hangs_is_known_to_all_until_its_row_is_free)
{
    int row = get_worker(0, 1);
    cr_assert_eq(get_worker(1, 1), row);
    cr_assert_eq(share_worker_hung(share, row), 0u);
    share_worker_set_hung(share, row, 7);
    share_worker_put(share, 0, row);
    cr_assert_eq(share_worker_hung(share, row), 7u);
    share_worker_put(share, 1, row);
    cr_assert_eq(share_worker_hung(share, row), 0u);
}

/* Over all seats, also after some of them have left; forgotten with the last one. */
Test(shm_workers, calls_so_far)
{
    struct share_worker_view view = {0};
    int worker = get_worker(1, 7);
    cr_assert_eq(get_worker(2, 7), worker);
    share_worker_describe(share, worker, "unix:/a", 4711, 1);
    for (int i = 0; i < 5; i++)
        share_worker_count_call(share, worker);
    int at = 0;
    cr_assert(share_worker_next(share, "unix:/a", &at, &view));
    cr_assert(view.calls == 5 && view.pid == 4711);
    share_worker_put(share, 1, worker);
    at = 0;
    cr_assert(share_worker_next(share, "unix:/a", &at, &view));
    cr_assert_eq(view.calls, 5u);
    share_worker_put(share, 2, worker);
    cr_assert_eq(get_worker(3, 7), worker);
    share_worker_describe(share, worker, "unix:/a", 4711, 1);
    at = 0;
    cr_assert(share_worker_next(share, "unix:/a", &at, &view));
    cr_assert_eq(view.calls, 0u);
    share_worker_put(share, 3, worker);
}

/* A process that has died: its calls were made all the same. */
Test(shm_workers, calls_of_the_dead)
{
    struct share_worker_view view = {0};
    int worker = get_worker(1, 7);
    cr_assert_eq(get_worker(2, 7), worker);
    share_worker_describe(share, worker, "unix:/a", 4711, 1);
    share_worker_count_call(share, worker);
    share_worker_count_call(share, worker);
    share_reclaim(share, share_seat_bit(2));
    int at = 0;
    cr_assert(share_worker_next(share, "unix:/a", &at, &view));
    cr_assert_eq(view.calls, 2u);
    share_worker_put(share, 2, worker);
}

/* The first shard that meets a process says when that was; a new process is new. */
Test(shm_workers, when_it_came)
{
    int worker = get_worker(1, 7);
    share_worker_meet(share, worker, 0); /* a clock that begins */
    cr_assert_eq(share_worker_came(share, worker), 1u);
    cr_assert_eq(get_worker(2, 7), worker);
    share_worker_meet(share, worker, 500);
    share_worker_put(share, 1, worker);
    cr_assert_eq(share_worker_came(share, worker), 1u);
    share_worker_set_back(share, worker, 600);
    cr_assert_eq(share_worker_came(share, worker), 600u);
    share_worker_put(share, 2, worker);
    cr_assert_eq(get_worker(1, 7), worker);
    share_worker_meet(share, worker, 700);
    cr_assert_eq(share_worker_came(share, worker), 700u);
    share_worker_put(share, 1, worker);
}
