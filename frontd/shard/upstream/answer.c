/*
 * answer_frame() ends the job with its answer (end()), or, of one in parts, hands each on as it
 * comes (relay()) where ops->begins() has said so; else puts it to the others (gather()). The last
 * part ends the job. WINDOW is told of parts that are relayed as the client takes them
 * (worker_credit()).
 *
 * An answer that is wrong ends in spoil(): the call fails at once, and the job is abandoned, with
 * CANCEL, as if its client had gone. So it keeps its slot until the worker has sent the rest. What
 * comes for a job that is abandoned is not looked at (pass()): only its end matters, which may be a
 * RESPONSE in the middle of a stream, too.
 */

#include "frontd/shard/upstream/answer.h"

#include "common/alloc.h"

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

static void end(
    const struct answers *answers, struct job *job, const struct frame *frame, enum rpc_error error)
{
    struct answer *answer = job->answer; /* the frame may be of its bytes; the job may be gone */
    job->answer = NULL;
    answers->ended(job, frame, error);
    free_answer(answer);
}

/*
 * A worker may have 256 KiB under way. WINDOW is not sent for each part, since tiny parts would
 * make as many frames of ours.
 */
static void tell_window(
    const struct answers *answers, struct job *job, const struct frame_head *head)
{
    if (head->type != FRAME_DATA || !has_more(head))
        return;
    job->unsaid += MIN(head->blob_len, (uint32_t)FRAME_SKIP_MAX);
    if (job->unsaid < JOB_WINDOW_STEP)
        return;
    channel_window(answers->channel, job->sent.id, job->unsaid);
    job->unsaid = 0;
}

/* The job is abandoned: its frame is dropped. */
static void pass(const struct answers *answers, struct job *job, const struct frame *frame)
{
    tell_window(answers, job, &frame->head);
    if (!has_more(&frame->head))
        end(answers, job, frame, 0);
}

/* The job fails: what has come is no answer, or there is no room for it, as `error` says. */
static void spoil(const struct answers *answers, struct job *job, const struct frame_head *head,
    enum rpc_error error, const char *why)
{
    fault_answer(answers->faults, job_method(job), error, why);
    tell_window(answers, job, head);
    answer_drop(job);
    if (!has_more(head))
        end(answers, job, NULL, error);
    else
        answers->ops->given_up(job, error);
}

static bool add_part(struct answer *answer, const struct frame *frame)
{
    bool first = frame->head.type == FRAME_RESPONSE;
    return (!first || buf_append(&answer->body, frame->body.p, frame->body.n) == 0) &&
           buf_append(&answer->blob, frame->blob.p, frame->blob.n) == 0;
}

/* One part of the answer to a job that is not abandoned. */
static void gather(const struct answers *answers, struct job *job, const struct frame *frame)
{
    const struct frame_head *head = &frame->head;
    if (head->type == FRAME_DATA && frame->body.n > 0) {
        spoil(answers, job, head, RPC_BAD_RESPONSE, "in DATA with bytes that are no blob");
        return;
    }
    if (!answers->ops->part(job, frame->body.n + frame->blob.n)) {
        pass(answers, job, frame);
        return;
    }
    if (job->answer == NULL)
        job->answer = mem_zalloc(sizeof(*job->answer));
    struct answer *answer = job->answer;
    if (answer != NULL && buf_len(&answer->blob) + frame->blob.n > FRAME_MAX_DEFAULT) {
        spoil(answers, job, head, RPC_BAD_RESPONSE, "over max_frame, its parts together");
        return;
    }
    if (answer == NULL || !add_part(answer, frame)) {
        spoil(answers, job, head, RPC_OVERLOADED, "more than there is memory for");
        return;
    }
    tell_window(answers, job, head);
    if (has_more(head))
        return;
    struct frame whole = *frame;
    whole.body = (struct span){buf_data(&answer->body), buf_len(&answer->body)};
    whole.blob = (struct span){buf_data(&answer->blob), buf_len(&answer->blob)};
    end(answers, job, &whole, 0);
}

/* What is wrong with a RESPONSE in the middle of an answer. A worker that cannot go on sends one
 * without MORE (protocol section 8). */
static const char *second(const struct frame_head *head)
{
    return has_more(head) ? "two RESPONSEs" : "given up by its worker in the middle";
}

/* One part of an answer that is relayed so, behind the first. */
static void relay(const struct answers *answers, struct job *job, const struct frame *frame)
{
    const struct frame_head *head = &frame->head;
    if (head->type == FRAME_RESPONSE)
        spoil(answers, job, head, RPC_BAD_RESPONSE, second(head));
    else if (frame->body.n > 0)
        spoil(answers, job, head, RPC_BAD_RESPONSE, "in DATA with bytes that are no blob");
    else if (job->unsaid >= JOB_WINDOW && frame->blob.n > 0)
        spoil(answers, job, head, RPC_BAD_RESPONSE, "beyond its window");
    else if (!has_more(head))
        end(answers, job, frame, 0);
    else {
        job->unsaid += (uint32_t)frame->blob.n;
        answers->channel->ctx->streamed += frame->blob.n;
        answers->ops->goes_on(job, frame->blob);
    }
}

/* The first part. Returns whether nothing is left to be done with it. */
static bool begin(const struct answers *answers, struct job *job, const struct frame *frame)
{
    const struct job_ops *ops = answers->ops;
    if (!answers->channel->streams || ops->begins == NULL)
        return false;
    job->streams = ops->begins(job, job->worker, frame);
    return job->streams || job->abandoned;
}

void answer_frame(const struct answers *answers, struct job *job, const struct frame *frame)
{
    const struct frame_head *head = &frame->head;
    bool first = head->type == FRAME_RESPONSE;
    if (LIKELY(first && !has_more(head) && job->answer == NULL && !job->streams))
        end(answers, job, frame, 0);
    else if (job->abandoned)
        pass(answers, job, frame);
    else if (job->streams)
        relay(answers, job, frame);
    else if (first && job->answer != NULL)
        spoil(answers, job, head, RPC_BAD_RESPONSE, second(head));
    else if (!first && job->answer == NULL)
        spoil(answers, job, head, RPC_BAD_RESPONSE, "begun with DATA");
    else if (!first || !begin(answers, job, frame))
        gather(answers, job, frame);
}

void answer_too_long(const struct answers *answers, struct job *job, const struct frame_head *head)
{
    if (!job->abandoned) {
        spoil(answers, job, head, RPC_BAD_RESPONSE, "over max_frame");
        return;
    }
    faults_note(answers->faults, job->sent.id, job_method(job));
    fault_frame(answers->faults, head, "it is over max_frame");
    tell_window(answers, job, head);
    if (!has_more(head))
        end(answers, job, NULL, RPC_BAD_RESPONSE);
}
