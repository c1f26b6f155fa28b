#include <criterion/criterion.h>

#include "frontd/ipc/shm_reclaim.h"
#include "frontd/ipc/shm_troubles.h"
#include "frontd/ipc/shm_workers.h"
#include "tests/unit/support/shm.h"

static struct trouble_cell *cell;

static void set_up(void)
{
    make_memory_of_test();
    cell = share_pool_trouble(share, 3);
}

TestSuite(shm_troubles, .init = set_up, .fini = unmap_memory_of_test);

Test(shm_troubles, said_once_and_over_once)
{
    cr_expect(share_trouble_see(cell, 1, 100));
    cr_expect_not(share_trouble_see(cell, 2, 150));
    cr_expect_not(share_trouble_see(cell, 1, 200));
    cr_expect_eq(share_trouble_over(cell, 1), 0);
    cr_expect_not(share_trouble_left(cell));
    cr_expect_eq(share_trouble_over(cell, 2), 100);
    cr_expect_eq(share_trouble_over(cell, 2), 0, "once");
    cr_expect(share_trouble_see(cell, 2, 300), "it begins anew");
}

Test(shm_troubles, one_that_leaves_leaves_it_to_others)
{
    cr_expect(share_trouble_see(cell, 1, 100));
    share_trouble_leave(cell, 1);
    cr_expect(share_trouble_left(cell));
    cr_expect_not(share_trouble_see(cell, 2, 200), "it has been said");
    cr_expect_not(share_trouble_left(cell));
    cr_expect_eq(share_trouble_over(cell, 2), 100);
    cr_expect_not(share_trouble_left(cell));
}

Test(shm_troubles, one_that_dies_does_too)
{
    cr_expect(share_trouble_see(cell, 1, 100));
    cr_expect_not(share_trouble_see(cell, 2, 100));
    share_reclaim(share, share_seat_bit(2));
    cr_expect_not(share_trouble_left(cell));
    share_reclaim(share, share_seat_bit(3));
    cr_expect(share_trouble_left(cell));
    cr_expect_eq(share_trouble_over(cell, 3), 100, "by whichever looks");
}

/* The row of a worker that is gone has none for the next one. */
Test(shm_troubles, they_go_with_the_worker)
{
    int worker = share_worker_get(share, 1, "a", 1);
    struct trouble_cell *late = share_worker_trouble(share, worker, SHARE_TROUBLE_LATE);
    cr_expect_neq(late, share_worker_trouble(share, worker, SHARE_TROUBLE_UNREAD));
    cr_expect(share_trouble_see(late, 1, 100));
    share_worker_put(share, 1, worker);
    int next = share_worker_get(share, 1, "b", 1);
    late = share_worker_trouble(share, next, SHARE_TROUBLE_LATE);
    cr_expect_not(share_trouble_left(late));
    cr_expect(share_trouble_see(late, 1, 200));
    share_worker_put(share, 1, next);
}
