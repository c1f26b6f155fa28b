#include <criterion/criterion.h>
#include <unistd.h>

#include "frontd/ipc/shm_limits.h"
#include "frontd/ipc/shm_reclaim.h"

static struct share *share, *other;

static void set_up(void)
{
    struct share_table table;
    int fd;
    share_table_init(&table);
    cr_assert_eq(share_create(64, &fd), 0);
    cr_assert_eq(share_map(fd, &table, &share), 0);
    cr_assert_eq(share_map(fd, &table, &other), 0);
    close(fd);
}

static void tear_down(void)
{
    share_unmap(share);
    share_unmap(other);
}

TestSuite(shm_limits, .init = set_up, .fini = tear_down);

Test(shm_limits, calls_over_all_seats)
{
    int row = share_limit_row(share, 4711);
    cr_assert_geq(row, 0);
    cr_expect_eq(share_limit_row(other, 4711), row);
    cr_expect_neq(share_limit_row(share, 4711 + SHARE_LIMITS), row, "another one at that place");
    cr_expect(share_limit_add(share, 0, row, 3));
    cr_expect(share_limit_add(other, 1, row, 3));
    cr_expect(share_limit_add(other, 1, row, 3));
    cr_expect_not(share_limit_add(share, 0, row, 3), "one past it");
    cr_expect_not(share_limit_add(other, 5, row, 3));
    share_limit_remove(share, 0, row);
    cr_expect(share_limit_add(other, 1, row, 3));
    cr_expect_not(share_limit_add(share, 0, row, 3));
    share_reclaim(share, 1); /* seat 1 has died */
    for (int i = 0; i < 3; i++)
        cr_expect(share_limit_add(share, 0, row, 3));
    cr_expect_not(share_limit_add(share, 0, row, 3));
    for (int i = 0; i < 5; i++)
        share_limit_remove(share, 0, row); /* of which two are somebody's mistake */
    cr_expect(share_limit_add(share, 0, row, 1));
}

Test(shm_limits, rows_are_used_up)
{
    for (uint64_t id = 1; id <= SHARE_LIMITS; id++)
        cr_assert_geq(share_limit_row(share, id * 7), 0);
    cr_expect_eq(share_limit_row(share, 99999), -1);
    cr_expect_geq(share_limit_row(share, 7), 0, "those that are there stay");
}

enum { INTERVAL = 100000 /* us: 10 a second */ };

static uint64_t take(const char *of, uint64_t now, uint32_t burst)
{
    return share_rate_take(share, 1, (struct span){of, strlen(of)}, now, INTERVAL, burst);
}

Test(shm_limits, rate_and_burst)
{
    uint64_t now = 1000000000;
    for (int i = 0; i < 5; i++)
        cr_expect_eq(take("a", now, 5), 0u, "call %d", i);
    cr_expect_eq(take("a", now, 5), INTERVAL, "one past it");
    cr_expect_eq(take("b", now, 5), 0u, "another one");
    cr_expect_eq(take("a", now + INTERVAL - 1, 5), 1u);
    cr_expect_eq(take("a", now + INTERVAL, 5), 0u);
    cr_expect_eq(take("a", now + INTERVAL, 5), INTERVAL);
    cr_expect_eq(
        share_rate_take(other, 1, SPAN("a"), now + INTERVAL, INTERVAL, 5), INTERVAL, "of all");
    cr_expect_eq(share_rate_take(other, 2, SPAN("a"), now + INTERVAL, INTERVAL, 5), 0u);
    now += 100 * INTERVAL;
    for (int i = 0; i < 5; i++)
        cr_expect_eq(take("a", now, 5), 0u, "no more than the burst is saved: %d", i);
    cr_expect_gt(take("a", now, 5), 0u);
}

/* Many at once: each has its own, as far as there is room, and none is refused for others. */
Test(shm_limits, very_many)
{
    uint64_t now = 1000000000;
    for (uint64_t i = 0; i < 100000; i++)
        cr_assert_eq(
            share_rate_take(share, 3, (struct span){(char *)&i, sizeof(i)}, now, INTERVAL, 1), 0u);
}
