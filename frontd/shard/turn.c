#include "frontd/shard/turn.h"

#include "common/log.h"
#include "frontd/shard/inspect/inspect.h"
#include "frontd/shard/leaving.h"
#include "frontd/shard/net/framed.h"
#include "frontd/shard/net/profile.h"
#include "frontd/shard/pressure.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/ready.h"
#include "frontd/shard/request/access_log.h"
#include "frontd/shard/request/parked.h"
#include "frontd/shard/request/rebind.h"
#include "frontd/shard/request/tracer.h"
#include "frontd/shard/sandbox.h"
#include "frontd/shard/shard_internal.h"
#include "frontd/shard/upstream/call.h"
#include "frontd/shard/upstream/worker.h"

static void expire_one(struct wheel_timer *timer)
{
    switch ((enum timer_kind)timer->kind) {
    case TIMER_CLIENT: client_timeout(timer); break;
    case TIMER_CALL: call_timeout(timer); break;
    case TIMER_CHANNEL: channel_timeout(timer); break;
    case TIMER_WORKER: worker_timeout(timer); break;
    case TIMER_POOL: pool_timeout(timer); break;
    case TIMER_ACCEPT: acceptor_timeout(timer); break;
    case TIMER_SENDER: sender_timeout(timer); break;
    case TIMER_RECEIVER: receiver_timeout(timer); break;
    case TIMER_MEMORY: pressure_timeout(timer); break;
    case TIMER_TLS: tls_timeout(timer); break;
    case TIMER_INSPECT: inspect_timeout(timer); break;
    case TIMER_TRACER: tracer_timeout(timer); break;
    case TIMER_ACCESS_LOG: access_log_timeout(timer); break;
    }
}

void turn_expire(struct ctx *ctx)
{
    struct wheel_timer *timer;
    profile_enter(PROFILE_TIMERS);
    while ((timer = wheel_expire(&ctx->wheel, ctx_now(ctx))) != NULL)
        expire_one(timer);
}

void turn_begin(struct ctx *ctx)
{
    if (ctx->later_clients == NULL)
        return;
    *ctx->later_tail = ctx->dirty_clients;
    if (ctx->dirty_clients == NULL)
        ctx->dirty_tail = ctx->later_tail;
    ctx->dirty_clients = ctx->later_clients;
    ctx->later_clients = NULL;
    ctx->later_tail = &ctx->later_clients;
}

bool turn_unfinished(const struct ctx *ctx)
{
    return !list_empty(&ctx->fanouts) || !list_empty(&ctx->busy_streams) ||
           ctx->later_clients != NULL || parked_unfinished(ctx) || ctx->rebind.walking ||
           tls_unfinished(ctx->tls) || inspect_unfinished(ctx->inspect);
}

void turn_go_on(struct ctx *ctx, uint64_t work)
{
    uint64_t until = ctx->work + work;
    while (ctx->work < until && !(list_empty(&ctx->fanouts) && list_empty(&ctx->busy_streams))) {
        if (!list_empty(&ctx->fanouts))
            fanout_go_on(list_first(&ctx->fanouts, struct fanout, node), WORK_SLICE);
        if (!list_empty(&ctx->busy_streams))
            stream_go_on(list_first(&ctx->busy_streams, struct stream, busy), WORK_SLICE);
    }
}

void turn_flush(struct ctx *ctx)
{
    profile_enter(PROFILE_WRITING);
    while (ctx->dirty_clients != NULL || !list_empty(&ctx->dirty_streams)) {
        while (ctx->dirty_clients != NULL) {
            struct client *client = ctx->dirty_clients;
            ctx->dirty_clients = client->dirty;
            if (ctx->dirty_clients == NULL)
                ctx->dirty_tail = &ctx->dirty_clients;
            client_flush(client);
        }
        while (!list_empty(&ctx->dirty_streams))
            stream_end_turn(list_first(&ctx->dirty_streams, struct stream, dirty));
    }
}

void turn_end(struct ctx *ctx, struct list *clients)
{
    turn_begin(ctx);
    profile_enter(PROFILE_READING);
    parked_turn(ctx);
    profile_enter(PROFILE_HANDOVER);
    receiver_turn(ctx->receiver);
    sender_prepare(ctx->sender);
    turn_flush(ctx); /* answers go out before what is left over is gone on with */
    profile_enter(PROFILE_HANDOVER);
    sender_turn(ctx->sender);
    rebind_turn(ctx);
    profile_enter(PROFILE_MEMORY);
    pressure_turn(ctx, clients);
    turn_flush(ctx);
    profile_enter(PROFILE_LEFT_OVER);
    /* Connections that are on their way to this shard are not served meanwhile. */
    turn_go_on(ctx, receiver_waiting(ctx->receiver) ? WORK_HAND_OVER : WORK_TURN);
    turn_flush(ctx);
    profile_enter(PROFILE_TLS);
    tls_turn(ctx->tls); /* last, since it may take long: see tls.h */
    profile_enter(PROFILE_INSPECT);
    inspect_turn(ctx->inspect);
    turn_flush(ctx);
}

static void on_looked(uv_check_t *handle)
{
    struct shard *shard = handle->data;
    uv_check_stop(handle);
    uv_timer_stop(&shard->tick);
    shard->tick_at = UINT64_MAX;
    turn_expire(&shard->ctx);
}

/* A timer is due. This process may not have run for a while, and bytes that came in time may wait
 * unread: all sockets are looked at once more before timers expire. */
static void on_tick(uv_timer_t *handle)
{
    struct shard *shard = handle->data;
    uv_check_start(&shard->looked, on_looked);
}

static void set_tick(struct shard *shard)
{
    if (uv_is_active((uv_handle_t *)&shard->looked)) {
        uv_timer_start(&shard->tick, on_tick, 0, 0); /* so that this look does not wait */
        return;
    }
    uint64_t next = wheel_next(&shard->ctx.wheel);
    if (next == shard->tick_at)
        return;
    shard->tick_at = next;
    if (next == UINT64_MAX) {
        uv_timer_stop(&shard->tick);
        return;
    }
    uint64_t now = ctx_now(&shard->ctx);
    uv_timer_start(&shard->tick, on_tick, next > now ? next - now : 0, 0);
}

/*
 * Workers that only publish are not read for a moment, while a sibling or the hand-over is behind
 * and makes progress (see mesh_congested(), receiver_overloaded(), sender_overloaded()). One that
 * makes none is not waited for: what it has no room for is lost to it.
 */
static void hold_back(struct shard *shard)
{
    static struct log_limit limit;
    struct ctx *ctx = &shard->ctx;
    bool congested = mesh_congested(&shard->parts.mesh);
    congested |= receiver_overloaded(shard->ctx.receiver) || sender_overloaded(shard->ctx.sender);
    if (congested || shard->congested) { /* each time: workers come, and get calls */
        shard->congested = congested;
        for (size_t i = 0; i < shard->npools; i++)
            pool_set_deaf(&shard->pools[i], congested);
    }
    uint64_t dropped = journal_dropped(&shard->parts.mesh.journal);
    if (dropped > 0) {
        share_count(ctx->count->unheard, dropped);
        log_limited(&limit, ctx_now(ctx), LOG_WARNING,
            "the hand-over does not get on: connections that are on their way miss up to %llu "
            "messages of workers",
            (unsigned long long)dropped);
    }
}

/* The loop does not wait, since something is left to do: sockets are looked at, then this turn
 * ends, too. */
static void on_more(uv_idle_t *handle)
{
    struct shard *shard = handle->data;
    ctx_now_us(&shard->ctx); /* from here on it is busy */
}

/* A turn with events has begun when the clock was first read in it, and ends now. */
static void count_turn(struct ctx *ctx)
{
    struct shard_words *words = ctx->counts.shard;
    share_count(words->turns, 1);
    if (ctx->now_us == 0)
        return;
    uint64_t took = uv_hrtime() / 1000 - ctx->now_us;
    share_count(words->busy, took);
    metric_observe(words->lag, took);
    ctx->now_us = 0; /* the clock is read anew in the next turn */
}

static void on_turn_end(uv_prepare_t *handle)
{
    struct shard *shard = handle->data;
    if (!shard->started)
        return;
    profile_enter(PROFILE_OTHER);
    ready_turn(shard);
    turn_end(&shard->ctx, &shard->acceptor.clients);
    profile_enter(PROFILE_OTHER);
    hold_back(shard);
    for (size_t i = 0; i < shard->npools; i++)
        pool_turn(&shard->pools[i]);
    if (UNLIKELY(sandbox_has_news()))
        sandbox_tell();
    leaving_turn(shard);
    count_turn(&shard->ctx);
    if (shard->finished)
        return;
    set_tick(shard);
    if (turn_unfinished(&shard->ctx))
        uv_idle_start(&shard->more, on_more);
    else
        uv_idle_stop(&shard->more);
    profile_enter(PROFILE_WAITING);
}

void turn_open(struct shard *shard)
{
    uv_loop_t *loop = &shard->ctx.loop;
    CHECK(uv_prepare_init(loop, &shard->turn_end) == 0);
    CHECK(uv_idle_init(loop, &shard->more) == 0);
    CHECK(uv_timer_init(loop, &shard->tick) == 0);
    CHECK(uv_check_init(loop, &shard->looked) == 0);
    shard->tick_at = UINT64_MAX;
    shard->more.data = shard;
    shard->turn_end.data = shard->tick.data = shard->looked.data = shard;
    CHECK(uv_prepare_start(&shard->turn_end, on_turn_end) == 0);
}

void turn_close(struct shard *shard)
{
    uv_close((uv_handle_t *)&shard->turn_end, NULL);
    uv_close((uv_handle_t *)&shard->more, NULL);
    uv_close((uv_handle_t *)&shard->tick, NULL);
    uv_close((uv_handle_t *)&shard->looked, NULL);
}
