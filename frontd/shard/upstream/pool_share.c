/*
 * Shards compete for the same slots. A shard that frees one looks whether another shard's client
 * has waited longer for its turn; if so it leaves the slot free and wakes that shard. Should that
 * shard not take it in a moment (it may have no channel to this worker, or hang, or have much else
 * to do), it is passed over for some times as long, and then goes first again: so a shard that
 * hangs costs little, and one that was only late is not kept out. Time in which all workers are
 * busy does not count.
 *
 * The limit of a queue counts over all shards. Where another shard has the client with most in it,
 * a job is let in, and that shard owes one: it is woken, and gives one up.
 */

#include "frontd/shard/upstream/pool_share.h"

#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_workers.h"

enum {
    FAIR_MS = 2,        /* another shard's call goes first when it is older by more than this */
    DEFER_MS = 10,      /* a shard that has not taken its slot by then is passed over */
    DEFER_MAX_MS = 320, /* the next time it has twice as long, up to this */
    PASSED_TIMES = 8,   /* a shard is passed over for 8 times as long as it was waited for */
};

/* As pool_share_find(), without the seats in `skip`, a bit each. */
static bool find_but(const struct pool *pool, const struct worker *worker, uint64_t skip,
    unsigned *ret_seat, uint64_t *ret_turn)
{
    const struct ctx *ctx = pool->ctx;
    skip |= share_seat_bit(ctx->seat);
    return pool_is_selective(pool)
               ? share_worker_oldest_but(ctx->share, skip, worker->share, ret_seat, ret_turn)
               : share_queue_oldest_but(ctx->share, skip, pool->row, ret_seat, ret_turn);
}

bool pool_share_find(
    const struct pool *pool, const struct worker *worker, unsigned *ret_seat, uint64_t *ret_turn)
{
    return find_but(pool, worker, 0, ret_seat, ret_turn);
}

/* Whether the slot is still left to that seat; else the seat is passed over from now on. */
static bool waits_for(struct deferral *deferral, unsigned seat, uint64_t turn, uint64_t now)
{
    bool same = deferral->seat == seat && deferral->turn == turn;
    if (!same && deferral->seat == seat)
        deferral->passed_ms = 0; /* it has taken its turn */
    if (!same || deferral->from == 0) {
        deferral->seat = seat;
        deferral->turn = turn;
        deferral->from = now;
    }
    uint32_t limit = deferral->passed_ms == 0 ? DEFER_MS
                                              : MIN(2 * deferral->passed_ms, DEFER_MAX_MS);
    if (now - deferral->from < limit)
        return true;
    deferral->passed |= share_seat_bit(seat);
    deferral->passed_until = now + (uint64_t)PASSED_TIMES * limit;
    deferral->passed_ms = limit;
    deferral->from = 0;
    return false;
}

/* Whether any worker has a free slot; for where all workers take all calls. */
static bool has_slot(const struct pool *pool)
{
    for (uint32_t i = 0; i < pool->nready; i++) {
        if (worker_usable(pool->ready[i]) && worker_has_slot(pool->ready[i]))
            return true;
    }
    return false;
}

bool pool_share_may_take(struct pool *pool, struct worker *worker, uint64_t since)
{
    struct deferral *deferral = pool_is_selective(pool) ? &worker->deferral : &pool->deferral;
    uint64_t now = ctx_now(pool->ctx);
    unsigned seat;
    uint64_t turn;
    if (now >= deferral->passed_until)
        deferral->passed = 0;
    while (find_but(pool, worker, deferral->passed, &seat, &turn) && turn + FAIR_MS < since) {
        if (!pool_is_selective(pool) && !has_slot(pool)) {
            deferral->from = 0; /* there was no slot for it: its time begins anew */
            return false;
        }
        if (waits_for(deferral, seat, turn, now)) {
            ctx_wake(pool->ctx, seat);
            return false;
        }
    }
    deferral->from = 0;
    return true;
}

void pool_share_tell(struct worker *worker, uint64_t since, struct share_waiting waiting)
{
    struct ctx *ctx = worker->pool->ctx;
    if (worker->oldest != since)
        share_worker_set_oldest(ctx->share, ctx->seat, worker->share, since);
    worker->oldest = since;
    if (worker->told.calls != waiting.calls || worker->told.clients != waiting.clients)
        share_worker_set_waiting(ctx->share, ctx->seat, worker->share, waiting);
    worker->told = waiting;
}

static uint64_t turn_of(const struct queue_class *class)
{
    return class == NULL ? 0 : MAX(queue_turn(class), 1U);
}

static uint64_t slots_of(const struct pool *pool, const struct queue_set *set)
{
    uint64_t slots = 0;
    for (uint32_t i = 0; i < pool->nready; i++)
        slots += queue_set_has(set, i) ? worker_slots(pool->ready[i]) : 0;
    return slots;
}

/* A worker's part of `n` that several workers with `slots` together may have. */
static uint32_t part_of(const struct worker *worker, uint32_t n, uint64_t slots)
{
    return (uint32_t)((uint64_t)n * SHARE_WAITING_ONE * worker_slots(worker) / slots);
}

void pool_share_note_class(
    struct pool *pool, const struct queue_set *set, const struct queue_item *item)
{
    const struct queue_class *class = queue_find(&pool->queue, set);
    if (class == NULL)
        return;
    uint64_t turn = turn_of(class);
    uint64_t slots = slots_of(pool, set);
    uint32_t fresh = queue_is_only(item);
    for (uint32_t i = 0; i < pool->nready; i++) {
        struct worker *worker = pool->ready[i];
        if (!queue_set_has(set, i))
            continue;
        struct share_waiting now = worker->told;
        now.calls += part_of(worker, class->count, slots) -
                     part_of(worker, class->count - 1, slots);
        now.clients += part_of(worker, class->nlanes, slots) -
                       part_of(worker, class->nlanes - fresh, slots);
        bool first = worker->oldest == 0 || worker->oldest > turn;
        pool_share_tell(worker, first ? turn : worker->oldest, now);
    }
}

void pool_share_note(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    share_queue_set_oldest(ctx->share, ctx->seat, pool->row, turn_of(queue_first(&pool->queue)));
    share_queue_set_largest(ctx->share, ctx->seat, pool->row, queue_largest(&pool->queue, NULL),
        queue_spare(&pool->queue));
    pool->restless |= pool_is_selective(pool);
}

void pool_share_refresh(struct pool *pool)
{
    pool->restless = false;
    for (uint32_t i = 0; i < pool->nready; i++) {
        pool->ready[i]->waiting = 0;
        pool->ready[i]->tell = (struct share_waiting){0};
    }
    for (uint32_t n = 0; pool_is_selective(pool) && n < pool->queue.nclasses; n++) {
        const struct queue_class *class = pool->queue.heap[n];
        uint64_t turn = turn_of(class);
        uint64_t slots = slots_of(pool, &class->set);
        for (uint32_t i = 0; i < pool->nready; i++) {
            struct worker *worker = pool->ready[i];
            if (!queue_set_has(&class->set, i))
                continue;
            if (worker->waiting == 0 || worker->waiting > turn)
                worker->waiting = turn;
            worker->tell.calls += part_of(worker, class->count, slots);
            worker->tell.clients += part_of(worker, class->nlanes, slots);
        }
    }
    for (uint32_t i = 0; i < pool->nready; i++)
        pool_share_tell(pool->ready[i], pool->ready[i]->waiting, pool->ready[i]->tell);
}

bool pool_share_admit(
    struct pool *pool, uint64_t flow, uint32_t limit, struct queue_item **ret_victim)
{
    struct share *share = pool->ctx->share;
    unsigned seat = pool->ctx->seat;
    unsigned largest_at = seat;
    struct queue_item *newest;
    if (LIKELY(share_queue_add(share, seat, pool->row, limit)))
        return true;
    uint32_t count = queue_flow_count(&pool->queue, flow) + 1;
    uint32_t ours = queue_largest(&pool->queue, &newest);
    uint32_t largest = share_queue_largest(share, pool->row, &largest_at);
    bool elsewhere = largest_at != seat && largest > MAX(ours, count);
    if (!elsewhere && ours <= count)
        return false;
    share_queue_add(share, seat, pool->row, UINT32_MAX);
    if (elsewhere) {
        share_queue_owe(share, largest_at, pool->row);
        ctx_wake(pool->ctx, largest_at);
    } else {
        *ret_victim = newest;
    }
    return true;
}
