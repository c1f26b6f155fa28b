#include <criterion/criterion.h>

#include "common/log.h"
#include "frontd/ipc/shm_holds.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"

TestSuite(shm_holds, .init = make_memory_of_test, .fini = unmap_memory_of_test);

Test(shm_holds, pools)
{
    share_set_pools(share, (const char *const[]){"a", "b"}, 2);
    unsigned a = (unsigned)share_pool(share, "a");
    unsigned b = (unsigned)share_pool(share, "b");
    cr_assert(!share_paused(share, a) && !share_paused(share, b));
    share_set_paused(share, a, true);
    cr_assert(share_paused(share, a) && !share_paused(share, b));
    share_reclaim(share, 0);
    cr_assert(share_paused(share, a), "no process's death changes it");
    share_set_pools(share, (const char *const[]){"b", "a"}, 2);
    cr_assert(share_paused(share, a), "its row stays");
    share_set_pools(share, (const char *const[]){"b", "c"}, 2);
    cr_assert(!share_paused(share, (unsigned)share_pool(share, "c")), "a row that was another's");
    share_set_paused(share, b, true);
    share_set_paused(share, b, false);
    cr_assert(!share_paused(share, b));
}

Test(shm_holds, workers)
{
    const char *names[SHARE_DRAINED_MAX];
    char texts[SHARE_DRAINED_MAX][32];
    cr_assert(!share_drained(share, "unix:/a"));
    share_set_drained(share, (const char *const[]){"unix:/a", "tcp://b:1"}, 2);
    cr_assert(share_drained(share, "unix:/a") && share_drained(share, "tcp://b:1"));
    cr_assert(!share_drained(share, "unix:/") && !share_drained(share, ""));
    share_reclaim(share, 0);
    cr_assert(share_drained(share, "unix:/a"));
    for (size_t i = 0; i < SHARE_DRAINED_MAX; i++) {
        snprintf(texts[i], sizeof(texts[i]), "unix:/%zu", i);
        names[i] = texts[i];
    }
    share_set_drained(share, names, SHARE_DRAINED_MAX);
    cr_assert(share_drained(share, names[SHARE_DRAINED_MAX - 1]));
    cr_assert(!share_drained(share, "unix:/a"));
    share_set_drained(share, NULL, 0);
    cr_assert(!share_drained(share, names[0]));
}

Test(shm_holds, the_log)
{
    cr_assert_eq(share_log_level(share), -1);
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        share_set_log_level(share, level);
        cr_assert_eq(share_log_level(share), level);
    }
    share_set_log_level(share, 77); /* as a process that was taken over might write it */
    cr_assert_eq(share_log_level(share), -1);
    share_set_log_level(share, -1);
    cr_assert_eq(share_log_level(share), -1);
}

Test(shm_holds, changes)
{
    uint32_t before = share_holds(share);
    share_holds_changed(share);
    cr_assert_neq(share_holds(share), before);
}
