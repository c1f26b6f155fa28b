#include <criterion/criterion.h>

#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"

TestSuite(metrics, .init = make_memory_of_test, .fini = unmap_memory_of_test);

static const unsigned seats[] = {0, 5, SHARE_SEAT_LAST};

/* Each metric has a number of its own, in which each seat has a decimal place. */
Test(metrics, sums_are_over_all_seats)
{
    for (uint64_t i = 0, place = 1; i < ARRAY_LEN(seats); i++, place *= 100) {
        struct share_counters *counters = share_counters(share, seats[i]);
        uint64_t number = 1;
#define COUNT(name, kind, help) share_count(&counters->name, number++ *place);
        METRICS(COUNT)
#undef COUNT
    }
    struct share_sums sums = share_sums(share);
    uint64_t number = 1;
#define COMPARE(name, kind, help) cr_expect_eq(sums.name, number++ * 10101, "%s: %s", #name, help);
    METRICS(COMPARE)
#undef COMPARE
}

Test(metrics, sums_outlive_the_processes)
{
    for (unsigned i = 0; i < ARRAY_LEN(seats); i++) {
        struct share_counters *counters = share_counters(share, seats[i]);
#define COUNT(name, kind, help) share_count(&counters->name, 1);
        METRICS(COUNT)
#undef COUNT
        cr_assert(share_connection_add(share, seats[i], 100));
    }
    share_reclaim(share, share_seat_bit(seats[0]));
    struct share_sums sums = share_sums(share);
    cr_expect_eq(sums.closed, 5u, "with what two processes had open when they ended");
    sums.closed = 3;
#define COMPARE(name, kind, help) cr_expect_eq(sums.name, 3u, "%s", #name);
    METRICS(COMPARE)
#undef COMPARE

    /* The next process on the seat goes on where the last one ended. */
    share_count(&share_counters(share, seats[2])->calls, 4);
    share_reclaim(share, 0);
    sums = share_sums(share);
    cr_expect_eq(sums.calls, 7u);
    cr_expect_eq(sums.closed, 6u);
}

/* Two shards never write to one cache line. */
Test(metrics, each_seat_has_its_own_cache_line)
{
    for (unsigned seat = 1; seat < SHARE_SEATS; seat++) {
        uintptr_t here = (uintptr_t)share_counters(share, seat);
        uintptr_t before = (uintptr_t)share_counters(share, seat - 1);
        cr_assert(here % 64 == 0 && here - before >= sizeof(struct share_counters));
    }
}
