#include "frontd/shard/upstream/trouble.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "common/log.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_troubles.h"
#include "frontd/shard/upstream/worker.h"

static double seconds(uint64_t ms)
{
    return (double)ms / 1000;
}

/*
 * Brings what is known of a trouble up to date. Returns whether it is to be said that there is
 * (*ret_over 0), or that it is over after so many ms (*ret_over).
 */
static bool update(const struct ctx *ctx, struct trouble *trouble, struct trouble_cell *cell,
    bool stuck, uint64_t *ret_over)
{
    uint64_t now = ctx_now(ctx);
    *ret_over = 0;
    if (stuck) {
        bool first = !trouble->seen && share_trouble_see(cell, ctx->seat, now);
        trouble->seen = true;
        trouble->well = 0;
        return first;
    }
    if (!trouble->seen && !share_trouble_left(cell)) {
        trouble->well = 0;
        return false;
    }
    if (trouble->well == 0)
        trouble->well = now;
    if (now - trouble->well < (trouble->seen ? (uint64_t)TROUBLE_CALM_MS : TROUBLE_LEFT_MS))
        return false;
    uint64_t since = share_trouble_over(cell, ctx->seat);
    *ret_over = MAX(now - MIN(since, now), 1U);
    *trouble = (struct trouble){.well = 0};
    return since != 0;
}

/* Whether bytes wait for the worker, and it has taken none for a while. *ret_waiting: so many. */
static bool is_unread(struct worker *worker, uint64_t *ret_waiting)
{
    struct trouble_reading *last = &worker->reading;
    const struct stream *stream = &worker->channel.stream;
    uint64_t now = ctx_now(worker->pool->ctx);
    int unread = 0;
    if (ioctl(stream->fd, SIOCOUTQ, &unread) < 0)
        unread = 0;
    *ret_waiting = (uint64_t)unread + buf_len(&stream->out);
    bool moved = stream->written != last->written || unread != last->unread || last->since == 0;
    last->written = stream->written;
    last->unread = unread;
    if (moved || *ret_waiting == 0)
        last->since = now;
    return now - last->since >= TROUBLE_UNREAD_MS;
}

static void look_at_reading(struct worker *worker)
{
    struct ctx *ctx = worker->pool->ctx;
    struct trouble_cell *cell = share_worker_trouble(
        ctx->share, worker->share, SHARE_TROUBLE_UNREAD);
    uint64_t waiting, over;
    bool stuck = is_unread(worker, &waiting);
    if (!update(ctx, &worker->troubles[SHARE_TROUBLE_UNREAD], cell, stuck, &over))
        return;
    if (over == 0)
        log_warning("pool %s: worker %s does not read: %llu bytes wait for it, with %zu calls, and "
                    "it has taken none for %.1f s",
            worker->pool->conf->name, worker->text, (unsigned long long)waiting,
            worker->channel.calls.count, seconds(ctx_now(ctx) - worker->reading.since));
    else
        log_warning("pool %s: worker %s reads again: that it did not is over after %.1f s",
            worker->pool->conf->name, worker->text, seconds(over));
}

static void look_at_late(struct worker *worker)
{
    struct ctx *ctx = worker->pool->ctx;
    struct trouble_cell *cell = share_worker_trouble(ctx->share, worker->share, SHARE_TROUBLE_LATE);
    uint64_t over;
    bool stuck = worker->late > 0 && ctx_now(ctx) - worker->late_since >= TROUBLE_LATE_MS;
    if (!update(ctx, &worker->troubles[SHARE_TROUBLE_LATE], cell, stuck, &over))
        return;
    if (over == 0)
        log_warning("pool %s: worker %s holds calls past their deadline: %u of %zu that this shard "
                    "has sent it",
            worker->pool->conf->name, worker->text, worker->late, worker->channel.calls.count);
    else
        log_warning("pool %s: worker %s holds no calls past their deadline: that it did is over "
                    "after %.1f s",
            worker->pool->conf->name, worker->text, seconds(over));
}

static void look_at_queue(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    uint64_t now = ctx_now(ctx);
    uint64_t since = now;
    uint64_t over;
    unsigned seat;
    uint64_t waiting = share_queue_waiting(ctx->share, pool->row);
    if (waiting == 0 || !share_queue_oldest_but(ctx->share, 0, pool->row, &seat, &since))
        since = now;
    uint64_t oldest = now - MIN(since, now);
    bool stuck = waiting > 0 && (oldest >= TROUBLE_QUEUE_MS || waiting > pool->conf->queue / 2);
    if (!update(ctx, &pool->crowded, share_pool_trouble(ctx->share, pool->row), stuck, &over))
        return;
    if (over == 0)
        log_warning("pool %s: calls wait for a worker: %llu of at most %u, the oldest for %.1f s; "
                    "%u workers are ready%s",
            pool->conf->name, (unsigned long long)waiting, pool->conf->queue, seconds(oldest),
            pool->nready, pool->paused ? ", but it is paused" : "");
    else
        log_warning("pool %s: calls do not wait any more: that they did is over after %.1f s",
            pool->conf->name, seconds(over));
}

void trouble_look(struct ctx *ctx, struct pool *pools, size_t npools)
{
    if (ctx->draining || ctx->leaving)
        return; /* it is for others to say */
    for (size_t i = 0; i < npools; i++) {
        look_at_queue(&pools[i]);
        list_for_each (node, &pools[i].workers) {
            struct worker *worker = container_of(node, struct worker, node);
            if (worker->share < 0 || !worker->ready)
                continue;
            look_at_reading(worker);
            look_at_late(worker);
        }
    }
}

static void leave(const struct ctx *ctx, struct trouble *trouble, struct trouble_cell *cell)
{
    if (trouble->seen)
        share_trouble_leave(cell, ctx->seat);
    *trouble = (struct trouble){.well = 0};
}

void trouble_leave_worker(struct worker *worker)
{
    struct ctx *ctx = worker->pool->ctx;
    for (int i = 0; i < SHARE_WORKER_TROUBLES && worker->share >= 0; i++)
        leave(ctx, &worker->troubles[i],
            share_worker_trouble(ctx->share, worker->share, (enum share_worker_trouble)i));
    worker->reading = (struct trouble_reading){.since = 0};
}

void trouble_leave_pool(struct pool *pool)
{
    leave(pool->ctx, &pool->crowded, share_pool_trouble(pool->ctx->share, pool->row));
}
