/*
 * call_start() builds the frame and submits it to the pool; the pool answers through call_job_ops:
 * answered, delivered or failed, each of which leads to end(). A deadline that passes and a client
 * that leaves come in through call_timeout() and call_cancel(): where a worker has the call, it
 * stays, without an owner, until the worker answers, and holds its slot until then, or until
 * `kill_after` has passed.
 */

#include "frontd/shard/upstream/call.h"

#include <errno.h>

#include "common/alloc.h"
#include "frontd/ipc/shm_limits.h"
#include "frontd/shard/upstream/asker.h"
#include "frontd/shard/upstream/worker.h"

enum { CALL_METHOD_KEPT = 64 /* bytes of the method that an abandoned call keeps, for the log */ };

_Static_assert(JOB_REFUSED_LATE == (int)METRIC_POOL_REFUSAL_COUNT, "as METRIC_POOL_REFUSALS");

static struct call *call_of(struct job *job)
{
    return container_of(job, struct call, job);
}

static void destroy(struct ctx *ctx, struct call *call)
{
    wheel_disarm(&call->deadline);
    buf_deinit(&call->job.frame);
    mem_free(call->method_copy);
    mark_put(ctx, call->mark);
    if (UNLIKELY(call->limit != 0))
        share_limit_remove(ctx->share, ctx->seat, (int)call->limit - 1);
    slab_put(&ctx->calls, call);
}

/* The one place where a call ends. */
static void end(struct call *call, const struct outcome *outcome)
{
    struct ctx *ctx = call->job.pool->ctx;
    list_remove(&call->node);
    if (!call->told)
        ctx->call_ops->ended(call, outcome);
    destroy(ctx, call);
}

static void on_job_answered(struct job *job, struct worker *worker, const struct frame *frame)
{
    struct outcome outcome = {
        .body = frame->body,
        .blob = frame->blob,
        .worker = worker,
        .method = {job->method, job->method_len},
        .streamed = job->streams,
    };
    end(call_of(job), &outcome);
}

static void on_job_delivered(struct job *job)
{
    struct outcome outcome = {0};
    end(call_of(job), &outcome);
}

static void on_job_chosen(struct job *job, struct worker *worker)
{
    job->pool->ctx->call_chosen(call_of(job), worker);
}

static void on_job_failed(struct job *job, enum rpc_error error)
{
    struct call *call = call_of(job);
    struct outcome outcome = {.error = error};
    if (error == RPC_OVERLOADED)
        outcome.retry_after = (uint8_t)pool_retry_after(job);
    if (job->refused != JOB_NOT_REFUSED)
        share_count(&call->counts->refused[job->refused - 1], 1);
    end(call, &outcome);
}

/* Frees the frame, which is not sent any more, but for the method's name, for the log. */
static void drop_frame(struct call *call)
{
    struct job *job = &call->job;
    job->method_len = MIN(job->method_len, (uint32_t)CALL_METHOD_KEPT);
    if (call->method_copy == NULL)
        call->method_copy = mem_strndup(job->method, job->method_len);
    if (call->method_copy == NULL)
        job->method_len = 0;
    job->method = call->method_copy;
    buf_deinit(&job->frame);
}

/*
 * Ends a call without an owner; where a worker has it, only the worker's answer ends it. For how
 * long it may hold a slot there is limited: call_timeout() comes once more.
 */
static void abandon(struct ctx *ctx, struct call *call)
{
    if (pool_abandon(&call->job)) {
        destroy(ctx, call);
        return;
    }
    drop_frame(call);
    ctx_arm(ctx, &call->deadline, call->job.pool->conf->kill_after);
}

/* Tells the owner how the call has ended, whether a worker still has it or not. */
static void give_up(struct call *call, enum rpc_error error)
{
    struct outcome outcome = {.error = error};
    struct ctx *ctx = call->job.pool->ctx;
    wheel_disarm(&call->deadline);
    list_remove(&call->node);
    if (!call->told)
        ctx->call_ops->ended(call, &outcome);
    call->owner = NULL;
    call->told = true;
    abandon(ctx, call);
}

static void on_job_given_up(struct job *job, enum rpc_error error)
{
    give_up(call_of(job), error);
}

static bool on_job_part(struct job *job, size_t n)
{
    struct call *call = call_of(job);
    if (job->pool->ctx->call_ops->part(call, n))
        return true;
    give_up(call, RPC_OVERLOADED);
    return false;
}

/* timeout: ms, 0: it may take for ever. */
static void put_off(struct call *call, uint64_t timeout)
{
    struct ctx *ctx = call->job.pool->ctx;
    call->job.expires = timeout == 0 ? UINT64_MAX : ctx_now(ctx) + timeout;
    if (timeout == 0)
        wheel_disarm(&call->deadline);
    else
        wheel_arm(&ctx->wheel, &call->deadline, call->job.expires);
}

/* From here on only a stream without progress is too late, not one that is long. */
static void wait_for_more(struct call *call)
{
    put_off(call, call->route->stream_timeout);
}

size_t call_part_room(const struct call *call)
{
    return worker_room(&call->job);
}

void call_send_part(struct call *call, struct span bytes, bool more)
{
    worker_data(&call->job, bytes, more);
    if (more || call->job.streams)
        wait_for_more(call);
    else
        put_off(call, call->route->timeout);
}

static void on_job_room(struct job *job)
{
    struct call *call = call_of(job);
    if (call->owner != NULL)
        job->pool->ctx->call_parts_ops->room(call);
}

static const char *on_job_progress(struct job *job, struct span text, bool binary)
{
    struct call *call = call_of(job);
    return call->owner == NULL ? NULL
                               : job->pool->ctx->call_parts_ops->progress(call, text, binary);
}

static bool on_job_begins(struct job *job, struct worker *worker, const struct frame *frame)
{
    struct call *call = call_of(job);
    enum rpc_error error = 0;
    struct outcome outcome = {
        .body = frame->body,
        .blob = frame->blob,
        .worker = worker,
        .method = {job->method, job->method_len},
    };
    bool taken = call->owner != NULL &&
                 job->pool->ctx->call_parts_ops->begins(call, &outcome, &error);
    if (taken && !job->abandoned)
        wait_for_more(call);
    else if (error != 0)
        give_up(call, error);
    return taken;
}

static void on_job_goes_on(struct job *job, struct span bytes)
{
    struct call *call = call_of(job);
    enum rpc_error error = job->pool->ctx->call_parts_ops->goes_on(call, bytes);
    if (error != 0)
        give_up(call, error);
    else if (!job->abandoned)
        wait_for_more(call);
}

void call_credit(struct call *call, size_t held)
{
    struct job *job = &call->job;
    if (!job->streams || job->state != JOB_SENT || job->unsaid < held + JOB_WINDOW_STEP)
        return;
    worker_credit(job, job->unsaid - (uint32_t)held);
    wait_for_more(call);
}

const struct job_ops call_job_ops = {
    .answered = on_job_answered,
    .delivered = on_job_delivered,
    .chosen = on_job_chosen,
    .failed = on_job_failed,
    .given_up = on_job_given_up,
    .part = on_job_part,
    .begins = on_job_begins,
    .goes_on = on_job_goes_on,
    .progress = on_job_progress,
    .room = on_job_room,
};

static int build_frame(struct call *call, const struct call_spec *spec)
{
    struct buf *frame = &call->job.frame;
    struct frame_head head = {
        .type = FRAME_REQUEST,
        .flags = (uint8_t)((spec->notify ? FRAME_F_NOTIFY : 0) | (spec->more ? FRAME_F_MORE : 0) |
                           (spec->binary ? FRAME_F_BINARY : 0)),
        .conn = spec->conn,
        .length = (uint32_t)(spec->meta.n + spec->body.n + spec->blob.n),
        .meta_len = (uint32_t)spec->meta.n,
        .blob_len = (uint32_t)spec->blob.n,
    };
    char *room = buf_room(frame, FRAME_HEAD_SIZE + head.length);
    if (room == NULL)
        return -ENOMEM;
    frame_head_write(&head, (uint8_t *)room);
    char *p = room + FRAME_HEAD_SIZE;
    if (spec->meta.n > 0)
        memcpy(p, spec->meta.p, spec->meta.n);
    p += spec->meta.n;
    memcpy(p, spec->body.p, spec->body.n);
    uint32_t body_at = (uint32_t)(p - room);
    p += spec->body.n;
    if (spec->blob.n > 0)
        memcpy(p, spec->blob.p, spec->blob.n);
    buf_added(frame, FRAME_HEAD_SIZE + head.length);
    if (spec->id.n > 0) {
        call->id_at = body_at + (uint32_t)(spec->id.p - spec->body.p);
        call->id_len = (uint32_t)spec->id.n;
    }
    if (spec->left_at != 0)
        call->job.left_at = FRAME_HEAD_SIZE + (uint32_t)spec->left_at;
    call->job.id_at = spec->http ? call->id_at : 0;
    return 0;
}

/* The method lives as long as the job: in its frame, or as a copy where it has escapes. */
static int keep_method(struct call *call, const struct call_spec *spec)
{
    struct job *job = &call->job;
    if (spec->method_escaped) {
        call->method_copy = mem_zalloc(spec->method.n + 1);
        if (call->method_copy == NULL)
            return -ENOMEM;
        job->method = call->method_copy;
        job->method_len = (uint32_t)jsonrpc_unescape(spec->method, call->method_copy);
        return 0;
    }
    size_t at = FRAME_HEAD_SIZE + spec->meta.n + (size_t)(spec->method.p - spec->body.p);
    job->method = buf_data(&job->frame) + at;
    job->method_len = (uint32_t)spec->method.n;
    return 0;
}

/* The call is a part of its request's trace, with a span of its own, which its worker is told. */
static void take_mark(struct ctx *ctx, struct call *call, const struct call_spec *spec)
{
    call->mark = spec->mark;
    call->mark->refs++;
    call->mark->calls++;
    if (!call->mark->traced)
        return;
    const uint64_t span = marks_random(ctx) | 1; /* not 0 */
    memcpy(call->span, &span, sizeof(call->span));
    if (spec->span_at != 0)
        traceparent_hex(call->span, sizeof(call->span),
            buf_data(&call->job.frame) + FRAME_HEAD_SIZE + spec->span_at);
}

int call_start(struct ctx *ctx, const struct call_spec *spec)
{
    struct call *call = slab_get(&ctx->calls);
    if (call == NULL)
        return -ENOMEM;
    wheel_timer_init(&call->deadline, TIMER_CALL);
    if (build_frame(call, spec) < 0 || keep_method(call, spec) < 0) {
        destroy(ctx, call);
        return -ENOMEM;
    }
    if (UNLIKELY(spec->mark != NULL))
        take_mark(ctx, call, spec);
    call->owner = spec->owner;
    call->route = spec->route;
    call->came_at = ctx_now_us(ctx);
    call->counts = spec->route == NULL ? counts_other_pair(&ctx->counts)
                                       : counts_pair(&ctx->counts, spec->route,
                                             (uint32_t)(spec->pool - ctx->pools));
    share_count(call->counts->started, 1);
    call->job.flow = spec->flow;
    call->claim = spec->claim;
    call->expected = spec->expected;
    call->kind = spec->kind;
    call->wide_kind = spec->wide_kind;
    call->guessed = spec->guessed;
    call->job.hash = spec->hash;
    call->job.home = spec->home;
    call->job.notify = spec->notify;
    call->job.uploads = spec->more;
    call->job.expires = ctx_now(ctx) + spec->timeout;
    const struct conf_pool *pool = spec->pool->conf;
    if (pool->nidempotent > 0)
        call->job.idempotent = conf_method_listed(pool->idempotent, pool->nidempotent,
            (struct span){call->job.method, call->job.method_len});
    if (UNLIKELY(spec->policy != NULL) && spec->policy->has_idempotent)
        call->job.idempotent = spec->policy->idempotent;
    call->limit = spec->limit;
    list_init(&call->node);
    if (spec->list != NULL)
        list_append(spec->list, &call->node);
    wheel_arm(&ctx->wheel, &call->deadline, call->job.expires);
    if (UNLIKELY(spec->to != NULL))
        asker_submit(spec->to, &call->job);
    else
        pool_submit(spec->pool, &call->job);
    return 0;
}

void call_cancel(struct call *call)
{
    struct ctx *ctx = call->job.pool->ctx;
    list_remove(&call->node);
    call->owner = NULL;
    if (call->job.notify)
        return; /* it is delivered all the same */
    call->told = true;
    wheel_disarm(&call->deadline);
    abandon(ctx, call);
}

void call_log_bad_answer(const struct outcome *outcome, const char *why)
{
    fault_answer(&outcome->worker->faults, outcome->method, RPC_BAD_RESPONSE, why);
}

enum rpc_error call_read_answer(
    const struct outcome *outcome, struct jsonrpc_response *ret_response)
{
    if (outcome->error != 0)
        return outcome->error;
    int r = jsonrpc_scan_response(outcome->body.p, outcome->body.n, ret_response);
    if (LIKELY(r == 0))
        return 0;
    call_log_bad_answer(outcome, r == JSONRPC_E_PARSE ? "no JSON" : "no JSON-RPC response");
    return RPC_BAD_RESPONSE;
}

struct span call_id(const struct call *call)
{
    if (call->id_len == 0)
        return SPAN("null");
    return (struct span){buf_data(&call->job.frame) + call->id_at, call->id_len};
}

void call_timeout(struct wheel_timer *timer)
{
    struct call *call = container_of(timer, struct call, deadline);
    if (call->job.abandoned)
        pool_give_up(&call->job);
    else if (call->job.streams && call->job.unsaid >= JOB_WINDOW)
        wait_for_more(call); /* it is the client that has to read */
    else
        give_up(call, RPC_DEADLINE_EXCEEDED);
}
