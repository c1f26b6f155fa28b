#include <criterion/criterion.h>

#include "frontd/ipc/shm_workers.h"
#include "frontd/supervisor/workers/recycle.h"
#include "tests/unit/support/managed.h"
#include "tests/unit/support/shm.h"

enum { HOUR = 60 * 60 * 1000, NONE = METRIC_RECYCLE_COUNT };

/* At each limit, and one before it. chance: 0: the whole of max_age. */
Test(recycle, due_by_table)
{
    static const struct {
        struct conf_pool conf;
        struct recycle_use use;
        unsigned reason; /* NONE: it is not due */
    } rows[] = {
        {{0}, {.calls = UINT64_MAX, .age = UINT64_MAX, .memory = UINT64_MAX}, NONE},
        {{.max_calls = 10}, {.calls = 9, .age = UINT64_MAX, .memory = UINT64_MAX}, NONE},
        {{.max_calls = 10}, {.calls = 10}, METRIC_RECYCLE_CALLS},
        {{.max_calls = 10}, {.calls = 11}, METRIC_RECYCLE_CALLS},
        {{.max_age = HOUR}, {.age = HOUR - 1, .calls = UINT64_MAX, .memory = UINT64_MAX}, NONE},
        {{.max_age = HOUR}, {.age = HOUR}, METRIC_RECYCLE_AGE},
        {{.max_age = HOUR}, {.age = HOUR * 4 / 5 - 1, .chance = HOUR / 5}, NONE},
        {{.max_age = HOUR}, {.age = HOUR * 4 / 5, .chance = HOUR / 5}, METRIC_RECYCLE_AGE},
        {{.max_age = HOUR}, {.age = HOUR - 1, .chance = HOUR / 5 + 1}, NONE},
        {{.max_memory = 1 << 20}, {.memory = (1 << 20) - 1, .calls = UINT64_MAX}, NONE},
        {{.max_memory = 1 << 20}, {.memory = 1 << 20}, METRIC_RECYCLE_MEMORY},
        {{.max_memory = 1 << 20}, {.memory = 0, .age = UINT64_MAX}, NONE},
        {{.max_memory = 1 << 20, .max_calls = 1, .max_age = 1000},
            {.memory = 1 << 20, .calls = 1, .age = 1000}, METRIC_RECYCLE_MEMORY},
        {{.max_memory = 1 << 20, .max_calls = 1, .max_age = 1000}, {.calls = 1, .age = 1000},
            METRIC_RECYCLE_CALLS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum metric_recycle reason = METRIC_RECYCLE_COUNT;
        bool due = recycle_is_due(&rows[i].conf, &rows[i].use, &reason);
        cr_expect_eq(due, rows[i].reason != NONE, "%zu", i);
        cr_expect_eq(reason, rows[i].reason, "%zu", i);
    }
}

Test(recycle, ages_are_spread)
{
    for (uint64_t max = 1000; max <= HOUR; max *= 6) {
        uint64_t least = UINT64_MAX;
        uint64_t most = 0;
        for (uint64_t i = 1; i <= 1000; i++) {
            uint64_t age = recycle_age(max, i * 0x9e3779b97f4a7c15ULL);
            least = MIN(least, age);
            most = MAX(most, age);
        }
        cr_expect(least >= max * 4 / 5 && least < max * 82 / 100, "%llu of %llu",
            (unsigned long long)least, (unsigned long long)max);
        cr_expect(most <= max && most > max * 98 / 100, "%llu of %llu", (unsigned long long)most,
            (unsigned long long)max);
    }
    cr_expect_eq(recycle_age(1, UINT64_MAX), 1u);
}

static int rows[4]; /* of the workers' slots, as a shard on seat 1 has them */

static void set_up_with_memory(void)
{
    set_up();
    make_memory_of_test();
}

static void tear_down_with_memory(void)
{
    tear_down();
    unmap_memory_of_test();
}

TestSuite(recycling, .init = set_up_with_memory, .fini = tear_down_with_memory, .timeout = 120);

static struct worker_process *worker_in(uint32_t slot)
{
    struct worker_process *found = NULL;
    list_for_each (node, &app()->workers) {
        struct worker_process *worker = container_of(node, struct worker_process, node);
        if (worker->name.slot == slot && worker->state != WORKER_LEAVING && worker->old == NULL)
            found = worker;
    }
    cr_assert_not_null(found, "no worker in slot %u", slot);
    return found;
}

static bool all_settled(void)
{
    list_for_each (node, &app()->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        if (worker->state != WORKER_SERVING || !worker->settled || worker->old != NULL)
            return false;
    }
    return count_is_wanted();
}

static void wait_until_settled(size_t n)
{
    wanted_count = n;
    run_until(all_settled, "workers that serve, and no others");
}

/* A shard has found the worker of a slot. */
static void meet(uint32_t slot)
{
    char address[256];
    const struct worker_process *worker = worker_in(slot);
    snprintf(address, sizeof(address), "unix:%s", worker->path);
    rows[slot] = share_worker_get(share, 1, &worker->pid, sizeof(worker->pid));
    cr_assert_geq(rows[slot], 0);
    share_worker_describe(share, rows[slot], address, worker->pid, 1);
}

/* The shard gives it calls. */
static void give(uint32_t slot, unsigned calls)
{
    for (unsigned i = 0; i < calls; i++)
        share_worker_count_call(share, rows[slot]);
}

static bool is_recycling(void)
{
    list_for_each (node, &app()->workers) {
        if (container_of(node, struct worker_process, node)->old != NULL)
            return true;
    }
    return false;
}

static bool looks(void)
{
    workers_look(&workers, share);
    return is_recycling();
}

static void stop(struct conf *conf)
{
    workers_stop(&workers, on_gone, &workers);
    run_until(gone, "the end of all");
    conf_free(conf);
}

/* Never more than one is replaced, or leaves. */
static bool recycled_one_at_a_time(void)
{
    size_t busy = 0;
    size_t serving = 0;
    workers_look(&workers, share);
    list_for_each (node, &app()->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        busy += worker->state == WORKER_LEAVING || worker->old != NULL;
        serving += worker->state == WORKER_SERVING;
    }
    cr_assert_leq(busy, 1u);
    cr_assert_geq(serving, 2u);
    return worker_in(0)->calls == 0 && worker_in(1)->calls == 0 && all_settled();
}

static uint64_t counted(enum metric_recycle reason)
{
    return atomic_load(&share_front(share, SHARE_SEAT_SUPERVISOR)->recycled[reason]);
}

Test(recycling, by_calls)
{
    pid_t before[4];
    pid_t after[4];
    struct conf *conf = make_conf("serve", 2, ", max_calls: 10");
    workers_apply(&workers, conf, true);
    wait_until_settled(2);
    get_pids(before);
    meet(0);
    meet(1);
    give(0, 9);
    give(1, 9);
    cr_assert(!looks());
    cr_assert(worker_in(0)->calls == 9 && worker_in(1)->calls == 9);
    give(0, 1);
    give(1, 1);
    cr_assert(looks());
    run_until(recycled_one_at_a_time, "both to be recycled");
    get_pids(after);
    cr_assert(after[0] > 0 && after[0] != before[0] && after[1] > 0 && after[1] != before[1]);
    cr_assert(!looks(), "what the new ones have done is not known yet");
    cr_assert(counted(METRIC_RECYCLE_CALLS) == 2 && counted(METRIC_RECYCLE_AGE) == 0);
    stop(conf);
}

/* All shards have lost the channel, and count anew: what they had counted is not forgotten. */
Test(recycling, calls_that_shards_have_forgotten)
{
    struct conf *conf = make_conf("serve", 1, ", max_calls: 10");
    workers_apply(&workers, conf, true);
    wait_until_settled(1);
    meet(0);
    give(0, 6);
    cr_assert(!looks());
    share_worker_put(share, 1, rows[0]);
    cr_assert(!looks());
    meet(0);
    give(0, 3);
    cr_assert(!looks());
    cr_assert_eq(worker_in(0)->calls, 9u);
    workers_look(&workers, NULL); /* there are no shards: nothing is known, nothing is lost */
    cr_assert(!is_recycling());
    give(0, 1);
    cr_assert(looks());
    wait_until_settled(1);
    stop(conf);
}

Test(recycling, by_memory)
{
    pid_t before[4];
    pid_t after[4];
    struct conf *most = make_conf("serve", 1, ", max_memory: 1024GiB");
    struct conf *least = make_conf("serve", 1, ", max_memory: 1MiB");
    workers_apply(&workers, most, true);
    wait_until_settled(1);
    get_pids(before);
    cr_assert(!looks());
    workers_apply(&workers, least, true);
    conf_free(most);
    cr_assert(looks());
    wait_until_settled(1);
    get_pids(after);
    cr_assert(after[0] > 0 && after[0] != before[0]);
    cr_assert_eq(counted(METRIC_RECYCLE_MEMORY), 1u);
    stop(least);
}

Test(recycling, memory_that_is_not_shown)
{
    struct conf *conf = make_conf("serve", 1, ", max_memory: 1MiB");
    workers_apply(&workers, conf, true);
    wait_until_settled(1);
    struct worker_process *worker = worker_in(0);
    pid_t pid = worker->pid;
    worker->pid = INT32_MAX; /* more than there can be */
    cr_assert(!looks() && app()->blind);
    worker->pid = pid;
    cr_assert(looks());
    wait_until_settled(1);
    stop(conf);
}

/* The clock of a worker is set back, in place of waiting. */
Test(recycling, by_age)
{
    struct conf *conf = make_conf("serve", 1, ", max_age: 1h");
    workers_apply(&workers, conf, true);
    wait_until_settled(1);
    struct worker_process *worker = worker_in(0);
    const uint64_t hour = 60 * 60 * 1000;
    worker->served -= hour / 2;
    cr_assert(!looks());
    worker->served -= hour / 2;
    cr_assert(looks());
    wait_until_settled(1);
    cr_assert_eq(counted(METRIC_RECYCLE_AGE), 1u);
    cr_assert(!looks(), "the new one is young");
    stop(conf);
}

static bool has_failed(void)
{
    return app()->recycle_failures == 1;
}

static bool tries_again(void)
{
    return looks();
}

/* A successor that cannot serve: the old one stays, and it is tried again after a while. */
Test(recycling, a_new_one_that_fails)
{
    pid_t before[4];
    pid_t after[4];
    struct conf *good = make_conf("serve", 1, ", max_calls: 1");
    struct conf *bad = make_conf("exit", 1, ", max_calls: 1");
    workers_apply(&workers, good, true);
    wait_until_settled(1);
    get_pids(before);
    meet(0);
    give(0, 1);
    workers_apply(&workers, bad, false); /* what is started from here on */
    cr_assert(looks());
    run_until(has_failed, "the end of the new one");
    cr_assert_gt(app()->recycle_at, 0u);
    wait_until_settled(1);
    get_pids(after);
    cr_assert_eq(after[0], before[0]);
    run_until(tries_again, "another try");
    workers_apply(&workers, good, false);
    conf_free(bad);
    while (after[0] == before[0]) {
        run_until(all_settled, "an end of the last try");
        run_until(tries_again, "another try");
        wait_until_settled(1);
        get_pids(after);
    }
    cr_assert_eq(app()->recycle_failures, 0u);
    stop(good);
}
