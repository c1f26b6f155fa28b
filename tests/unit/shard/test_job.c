#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "common/alloc.h"
#include "common/base.h"
#include "frontd/shard/upstream/job.h"

enum { STATES = 3 };

static struct slab slab;
static struct queue queue;
static struct idmap calls;
static struct job job;
static struct worker *const worker = (struct worker *)&slab; /* only compared */
static const struct queue_set everyone = {{UINT64_MAX}};

static void set_up(void)
{
    slab_init(&slab, queue_slab_size());
    cr_assert_eq(queue_init(&queue, &slab), 0);
    cr_assert_eq(idmap_init(&calls), 0);
    memset(&job, 0, sizeof(job));
}

static void tear_down(void)
{
    queue_deinit(&queue);
    idmap_deinit(&calls);
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

TestSuite(job, .init = set_up, .fini = tear_down);

Test(job, all_pairs)
{
    static const bool allowed[STATES][STATES] = {
        [JOB_IDLE] = {[JOB_QUEUED] = true, [JOB_SENT] = true},
        [JOB_QUEUED] = {[JOB_IDLE] = true},
        [JOB_SENT] = {[JOB_IDLE] = true},
    };
    for (int from = 0; from < STATES; from++) {
        for (int to = 0; to < STATES; to++)
            cr_expect_eq(job_may_become((enum job_state)from, (enum job_state)to),
                allowed[from][to], "%d → %d", from, to);
    }
}

static void enqueue(void)
{
    cr_assert_eq(job_enqueue(&job, &queue, &everyone, false, 1), 0);
}

static void give(void)
{
    job_give(&job, worker, 5, 77);
}

Test(job, is_in_the_queue_while_queued)
{
    enqueue();
    cr_assert(job.state == JOB_QUEUED && queue.count == 1);
    cr_assert_eq(job_of_item(queue_oldest(&queue)), &job);
    job_serve(&job, &queue, 2);
    cr_assert(job.state == JOB_IDLE && queue.count == 0);
    enqueue();
    job_dequeue(&job, &queue);
    cr_assert(job.state == JOB_IDLE && queue.count == 0);
}

Test(job, stays_idle_where_the_queue_has_no_memory)
{
    for (long n = 0; job.state == JOB_IDLE; n++) {
        mem_fail_after(n);
        int r = job_enqueue(&job, &queue, &everyone, false, 1);
        mem_fail_after(-1);
        cr_assert_eq(job.state, r == 0 ? JOB_QUEUED : JOB_IDLE);
        cr_assert_eq(queue.count, r == 0 ? 1 : 0);
        cr_assert_lt(n, 100);
    }
    job_dequeue(&job, &queue);
}

Test(job, is_among_the_calls_while_sent)
{
    job.answer = (struct answer *)&slab;
    give();
    cr_assert(job.state == JOB_SENT && job.worker == worker && job.slot == 5);
    cr_assert(job.sent_at == 77 && job.answer == NULL && job.unsaid == 0 && job.sent.id == 0);
    job.sent.id = 9;
    idmap_add(&calls, &job.sent);
    job_take_back(&job, &calls);
    cr_assert(job.state == JOB_IDLE && job.worker == NULL && calls.count == 0);
    give();
    job_take_back(&job, NULL);
    cr_assert_eq(job.state, JOB_IDLE);
}

static void no_set(const struct queue_item *item, struct queue_set *ret_set, void *data)
{
    (void)item;
    (void)data;
    queue_set_add(ret_set, 3);
}

Test(job, leaves_the_list_of_those_without_memory)
{
    struct list failed;
    list_init(&failed);
    enqueue();
    mem_fail_after(0);
    queue_reclass(&queue, no_set, NULL, &failed);
    mem_fail_after(-1);
    cr_assert(!list_empty(&failed));
    cr_assert_eq(job_take_failed(&failed), &job);
    cr_assert(list_empty(&failed));
    cr_assert(job.state == JOB_IDLE && queue.count == 0);
}

/* Each forbidden move ends the process. */

Test(job, queued_twice, .signal = SIGABRT)
{
    enqueue();
    enqueue();
}

Test(job, sent_from_the_queue, .signal = SIGABRT)
{
    enqueue();
    give();
}

Test(job, sent_twice, .signal = SIGABRT)
{
    give();
    give();
}

Test(job, queued_while_sent, .signal = SIGABRT)
{
    give();
    enqueue();
}

Test(job, served_while_idle, .signal = SIGABRT)
{
    job_serve(&job, &queue, 1);
}

Test(job, dequeued_while_idle, .signal = SIGABRT)
{
    job_dequeue(&job, &queue);
}

Test(job, taken_back_while_idle, .signal = SIGABRT)
{
    job_take_back(&job, NULL);
}
