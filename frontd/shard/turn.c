#include "frontd/shard/turn.h"

#include "frontd/shard/client/acceptor.h"
#include "frontd/shard/handover/receiver.h"
#include "frontd/shard/handover/sender.h"
#include "frontd/shard/net/framed.h"
#include "frontd/shard/pressure.h"
#include "frontd/shard/push/fanout.h"
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
    }
}

void turn_expire(struct ctx *ctx)
{
    struct wheel_timer *timer;
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
           ctx->later_clients != NULL;
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
    receiver_turn(ctx->receiver);
    sender_prepare(ctx->sender);
    turn_flush(ctx); /* answers go out before what is left over is gone on with */
    sender_turn(ctx->sender);
    pressure_turn(ctx, clients);
    turn_flush(ctx);
    /* Connections that are on their way to this shard are not served meanwhile. */
    turn_go_on(ctx, receiver_waiting(ctx->receiver) ? WORK_HAND_OVER : WORK_TURN);
    turn_flush(ctx);
}
