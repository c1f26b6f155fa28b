/*
 * What becomes of a worker that fails repeatedly: health_bad() and health_lost() count, eject()
 * leaves it out, health_look() brings it back, to be tried with one call (health_may_try(),
 * health_tried()).
 */

#include "frontd/shard/upstream/worker.h"

#include "common/log.h"
#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/shard/upstream/slow_start.h"

enum { SLACK_MS = 1000 /* beyond the deadline of the call that is tried */ };

static enum share_health state_of(const struct worker *worker)
{
    const struct ctx *ctx = worker->pool->ctx;
    return worker->health < 0 ? SHARE_HEALTH_WELL
                              : share_health_state(ctx->share, worker->health, ctx_now(ctx));
}

void health_init(struct worker *worker)
{
    const struct ctx *ctx = worker->pool->ctx;
    worker->health = worker->pool->conf->failures == 0
                         ? -1
                         : share_health_get(ctx->share, worker->text, ctx_now(ctx));
}

/* Whether another worker takes what this one takes. */
static bool has_stand_in(const struct worker *worker)
{
    const struct pool *pool = worker->pool;
    for (uint32_t i = 0; i < pool->nready; i++) {
        const struct worker *other = pool->ready[i];
        if (other == worker)
            continue;
        bool takes = !other->narrow || worker->narrow;
        for (size_t j = 0; takes && other->narrow && j < worker->nmethods; j++) {
            bool found = false;
            for (size_t k = 0; k < other->nmethods && !found; k++)
                found = strcmp(other->methods[k], worker->methods[j]) == 0;
            takes = found;
        }
        if (takes)
            return true;
    }
    return false;
}

/* Whether it may be left out, or may go on being so. */
static bool may_be_out(const struct worker *worker)
{
    const struct pool *pool = worker->pool;
    uint32_t here = pool->nready + pool->nout + (!worker->ready && !worker->out);
    uint32_t out = pool->nout + !worker->out;
    return 2 * out <= here && has_stand_in(worker);
}

static void leave_out(struct worker *worker)
{
    struct pool *pool = worker->pool;
    pool_worker_unready(pool, worker);
    worker->out = true;
    worker->trying = false;
    pool->nout++;
}

static void come_back(struct worker *worker, enum share_health state)
{
    health_forget(worker);
    worker->trying = state == SHARE_HEALTH_TRY;
    pool_worker_ready(worker->pool, worker);
}

void health_forget(struct worker *worker)
{
    worker->pool->nout -= worker->out;
    worker->out = worker->trying = false;
}

void health_admit(struct worker *worker)
{
    enum share_health state = state_of(worker);
    if (state == SHARE_HEALTH_OUT && may_be_out(worker))
        leave_out(worker);
    else
        come_back(worker, state);
    health_look(worker->pool); /* there may be enough others now for one that was to be left out */
}

/* Other shards look at once. */
static void wake_others(const struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    uint64_t seats = share_pool_reached(ctx->share, pool->row) & ~share_seat_bit(ctx->seat);
    for (unsigned seat = 0; seats != 0; seat++, seats >>= 1) {
        if (seats & 1)
            ctx_wake(ctx, seat);
    }
}

void health_look(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    if (pool->conf->failures == 0 || pool->shutting)
        return;
    pool->health_changes = share_health_changes(ctx->share);
    list_for_each (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        if (worker->health >= 0)
            share_health_touch(ctx->share, worker->health, ctx_now(ctx));
        if (!worker->ready && !worker->out)
            continue;
        enum share_health state = state_of(worker);
        bool out = state == SHARE_HEALTH_OUT && may_be_out(worker);
        if (worker->out && !out)
            come_back(worker, state);
        else if (worker->ready && out)
            leave_out(worker);
        else if (worker->ready)
            worker->trying = state != SHARE_HEALTH_WELL &&
                             (worker->trying || state == SHARE_HEALTH_TRY);
        if (worker->ready)
            slow_start_note(worker); /* another shard may have brought it back */
    }
}

static void eject(struct worker *worker, bool trial)
{
    struct pool *pool = worker->pool;
    struct ctx *ctx = pool->ctx;
    uint64_t ms = share_health_eject(
        ctx->share, worker->health, ctx_now(ctx), pool->conf->ejected, trial);
    if (ms == 0)
        return;
    share_count(share_front(ctx->share, ctx->seat)->ejected, 1);
    if (trial)
        log_warning("pool %s: worker %s has failed again in the call that was tried: it gets no "
                    "calls for %.1f s",
            pool->conf->name, worker->text, (double)ms / 1000);
    else
        log_warning("pool %s: worker %s has failed %u times in a row: it gets no calls for %.1f s",
            pool->conf->name, worker->text, (unsigned)pool->conf->failures, (double)ms / 1000);
    health_look(pool);
    pool_dispatch(pool); /* calls that waited for it may have another now */
    wake_others(pool);
}

static void fail(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct ctx *ctx = pool->ctx;
    if (state_of(worker) != SHARE_HEALTH_WELL ||
        share_health_fail(ctx->share, worker->health) < pool->conf->failures)
        return;
    if (may_be_out(worker))
        eject(worker, false);
    else
        log_limited(&worker->kept, ctx_now(ctx), LOG_WARNING,
            "pool %s: worker %s has failed %u times in a row: it gets calls all the same, since "
            "too few others are there for them",
            pool->conf->name, worker->text, (unsigned)pool->conf->failures);
}

static void back(struct worker *worker, uint32_t failed, const char *why)
{
    struct pool *pool = worker->pool;
    struct ctx *ctx = pool->ctx;
    share_worker_set_back(ctx->share, worker->share, ctx_now(ctx));
    share_health_back(ctx->share, worker->health, ctx_now(ctx), failed);
    log_info("pool %s: worker %s %s: it gets calls again", pool->conf->name, worker->text, why);
    health_look(pool);
    wake_others(pool);
}

void health_good(struct worker *worker, uint64_t call)
{
    struct share *share = worker->pool->ctx->share;
    if (worker->health < 0 || LIKELY(!share_health_suspect(share, worker->health)))
        return;
    if (worker->trial == call) {
        worker->trial = 0;
        back(worker, 0, "has answered the call that was tried");
    } else if (state_of(worker) == SHARE_HEALTH_WELL) {
        share_health_set_failed(share, worker->health, 0);
    }
}

void health_bad(struct worker *worker, uint64_t call)
{
    if (worker->health < 0)
        return;
    if (worker->trial == call) {
        worker->trial = 0;
        eject(worker, true);
    } else {
        fail(worker);
    }
}

static void release(struct worker *worker)
{
    struct pool *pool = worker->pool;
    worker->trial = 0;
    share_health_release(pool->ctx->share, worker->health);
    health_look(pool);
    wake_others(pool);
}

void health_cancelled(struct worker *worker, uint64_t call)
{
    if (UNLIKELY(worker->trial == call))
        release(worker);
}

void health_late(struct worker *worker, const struct job *job)
{
    struct ctx *ctx = worker->pool->ctx;
    const struct service *service = worker_service(worker);
    bool had_time = !service_known(service, ctx_now(ctx)) ||
                    ctx_now_us(ctx) - job->sent_at >= service->mean_ns / 1000;
    if (had_time)
        health_bad(worker, job->sent.id);
    else
        health_cancelled(worker, job->sent.id);
}

void health_lost(struct worker *worker, bool failed)
{
    struct pool *pool = worker->pool;
    struct ctx *ctx = pool->ctx;
    uint64_t trial = worker->trial;
    worker->trial = 0;
    if (worker->health < 0)
        return;
    bool ours = pool->shutting || ctx->leaving;
    if (!ours && trial != 0 && failed)
        eject(worker, true);
    else if (trial != 0)
        release(worker);
    else if (!ours && failed &&
             (worker->channel.hung ||
                 share_health_note_lost(ctx->share, worker->health, ctx_now(ctx), worker->pid)))
        fail(worker);
}

bool health_may_try(struct worker *worker, uint64_t until)
{
    struct ctx *ctx = worker->pool->ctx;
    uint64_t now = ctx_now(ctx);
    if (state_of(worker) == SHARE_HEALTH_WELL) {
        worker->trying = false;
        return true;
    }
    until = MIN(MAX(until, now), now + SHARE_HEALTH_LONGEST_MS) + SLACK_MS;
    worker->testing = share_health_try(ctx->share, worker->health, now, until);
    return worker->testing;
}

void health_tried(struct worker *worker, const struct job *job, bool sent)
{
    worker->testing = false;
    if (!sent) {
        release(worker);
        return;
    }
    log_info("pool %s: worker %s is tried with one call", worker->pool->conf->name, worker->text);
    if (job->notify) {
        /* It is not known what becomes of it: the next failure leaves it out again. */
        back(worker, worker->pool->conf->failures - 1, "has got a notification");
        return;
    }
    worker->trial = job->sent.id;
    if (worker->ready && may_be_out(worker))
        leave_out(worker); /* until it has answered */
}
