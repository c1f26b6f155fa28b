#include "frontd/shard/upstream/job.h"

#define TO(state) (1U << (state))

bool job_may_become(enum job_state from, enum job_state to)
{
    static const unsigned moves[] = {
        [JOB_IDLE] = TO(JOB_QUEUED) | TO(JOB_SENT),
        [JOB_QUEUED] = TO(JOB_IDLE), /* a worker that has a slot for it gets it from there */
        [JOB_SENT] = TO(JOB_IDLE),
    };
    return moves[from] & TO(to);
}

/* The only assignment of the state. */
static void set_state(struct job *job, enum job_state state)
{
    CHECK(job_may_become(job->state, state));
    job->state = (uint8_t)state;
}

int job_enqueue(
    struct job *job, struct queue *queue, const struct queue_set *set, bool in_front, uint64_t now)
{
    set_state(job, JOB_QUEUED);
    job->sent_at = 0;
    int r = queue_add(queue, &job->item, job->flow, set, in_front, now);
    if (r < 0)
        set_state(job, JOB_IDLE);
    return r;
}

void job_serve(struct job *job, struct queue *queue, uint64_t now)
{
    set_state(job, JOB_IDLE);
    queue_serve(queue, &job->item, now);
}

void job_dequeue(struct job *job, struct queue *queue)
{
    set_state(job, JOB_IDLE);
    queue_remove(queue, &job->item);
}

struct job *job_take_failed(struct list *failed)
{
    struct job *job = job_of_item(list_first(failed, struct queue_item, in_lane));
    set_state(job, JOB_IDLE);
    list_remove(&job->item.in_lane);
    return job;
}

void job_give(struct job *job, struct worker *worker, int slot, uint64_t now)
{
    set_state(job, JOB_SENT);
    job->worker = worker;
    job->answer = NULL;
    job->unsaid = 0;
    job->room = JOB_WINDOW;
    job->sent.id = 0;
    job->slot = slot;
    job->sent_at = now;
}

void job_take_back(struct job *job, struct idmap *calls)
{
    set_state(job, JOB_IDLE);
    if (calls != NULL)
        idmap_remove(calls, &job->sent);
    job->worker = NULL;
}
