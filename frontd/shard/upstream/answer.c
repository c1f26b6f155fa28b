/*
 * answer_frame() ends the job with its answer (end()), or puts a part to the others (gather()), of
 * which the last one ends it.
 *
 * What is wrong with an answer is seen in spoil(): whoever waits for it is told at once, and the
 * job is abandoned, with CANCEL, as one whose client has gone. So it keeps its slot until the
 * worker has sent the rest. What comes for a job that is abandoned is not looked at (pass()): only
 * its end matters, which may be a RESPONSE in the middle of a stream, too.
 */

#include "frontd/shard/upstream/answer.h"

#include "common/alloc.h"
#include "frontd/shard/upstream/worker.h"

enum { WINDOW_STEP = 64 * 1024 }; /* bytes; a quarter of the window of protocol section 8 */

struct answer {
    struct buf body;
    struct buf blob;
};

static void free_answer(struct answer *answer)
{
    if (answer == NULL)
        return;
    buf_deinit(&answer->body);
    buf_deinit(&answer->blob);
    mem_free(answer);
}

void answer_drop(struct job *job)
{
    free_answer(job->answer);
    job->answer = NULL;
}

static bool has_more(const struct frame_head *head)
{
    return head->flags & FRAME_F_MORE;
}

/* The worker is done with the job. error: 0: the frame, whose parts are borrowed, is its answer. */
static void end(struct job *job, const struct frame *frame, enum rpc_error error)
{
    struct worker *worker = job->worker;
    const struct pool_ops *ops = worker->pool->ops;
    struct answer *answer = job->answer; /* it has to outlive the job's slot */
    job->answer = NULL;
    idmap_remove(&worker->channel.calls, &job->sent);
    worker_take_back(worker, job);
    if (UNLIKELY(error != 0))
        ops->failed(job, error);
    else
        ops->answered(job, worker, frame);
    free_answer(answer);
    pool_slot_freed(worker);
}

/* A worker may have 256 KiB under way; that its parts are tiny must not make more frames of ours.
 */
static void tell_window(struct job *job, const struct frame_head *head)
{
    if (head->type != FRAME_DATA || !has_more(head))
        return;
    job->unsaid += MIN(head->blob_len, (uint32_t)FRAME_SKIP_MAX);
    if (job->unsaid < WINDOW_STEP)
        return;
    channel_window(&job->worker->channel, job->sent.id, job->unsaid);
    job->unsaid = 0;
}

/* Nobody waits for it. */
static void pass(struct job *job, const struct frame *frame)
{
    tell_window(job, &frame->head);
    if (!has_more(&frame->head))
        end(job, frame, 0);
}

/* What has come for a job that is waited for is no answer, or (error) there is no room for it. */
static void spoil(
    struct job *job, const struct frame_head *head, enum rpc_error error, const char *why)
{
    fault_answer(&job->worker->faults, (struct span){job->method, job->method_len}, error, why);
    tell_window(job, head);
    answer_drop(job);
    if (!has_more(head))
        end(job, NULL, error);
    else
        job->pool->ops->given_up(job, error);
}

static bool add_part(struct answer *answer, const struct frame *frame)
{
    bool first = frame->head.type == FRAME_RESPONSE;
    return (!first || buf_append(&answer->body, frame->body.p, frame->body.n) == 0) &&
           buf_append(&answer->blob, frame->blob.p, frame->blob.n) == 0;
}

/* One part of an answer that is waited for. */
static void gather(struct job *job, const struct frame *frame)
{
    const struct frame_head *head = &frame->head;
    if (head->type == FRAME_DATA && frame->body.n > 0) {
        spoil(job, head, RPC_BAD_RESPONSE, "in DATA with bytes that are no blob");
        return;
    }
    if (!job->pool->ops->part(job, frame->body.n + frame->blob.n)) {
        pass(job, frame);
        return;
    }
    if (job->answer == NULL)
        job->answer = mem_zalloc(sizeof(*job->answer));
    struct answer *answer = job->answer;
    if (answer != NULL && buf_len(&answer->blob) + frame->blob.n > FRAME_MAX_DEFAULT) {
        spoil(job, head, RPC_BAD_RESPONSE, "over max_frame, its parts together");
        return;
    }
    if (answer == NULL || !add_part(answer, frame)) {
        spoil(job, head, RPC_OVERLOADED, "more than there is memory for");
        return;
    }
    tell_window(job, head);
    if (has_more(head))
        return;
    struct frame whole = *frame;
    whole.body = (struct span){buf_data(&answer->body), buf_len(&answer->body)};
    whole.blob = (struct span){buf_data(&answer->blob), buf_len(&answer->blob)};
    end(job, &whole, 0);
}

void answer_frame(struct job *job, const struct frame *frame)
{
    const struct frame_head *head = &frame->head;
    bool first = head->type == FRAME_RESPONSE;
    if (LIKELY(first && !has_more(head) && job->answer == NULL))
        end(job, frame, 0);
    else if (job->abandoned)
        pass(job, frame);
    else if (first && job->answer != NULL)
        spoil(job, head, RPC_BAD_RESPONSE, "two RESPONSEs");
    else if (!first && job->answer == NULL)
        spoil(job, head, RPC_BAD_RESPONSE, "begun with DATA");
    else
        gather(job, frame);
}

void answer_too_long(struct job *job, const struct frame_head *head)
{
    struct worker *worker = job->worker;
    if (!job->abandoned) {
        spoil(job, head, RPC_BAD_RESPONSE, "over max_frame");
        return;
    }
    faults_note(&worker->faults, job->sent.id, (struct span){job->method, job->method_len});
    fault_frame(&worker->faults, head, "it is over max_frame");
    tell_window(job, head);
    if (!has_more(head))
        end(job, NULL, RPC_BAD_RESPONSE);
}
