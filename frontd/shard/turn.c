#include "frontd/shard/turn.h"

#include "frontd/shard/client/client.h"
#include "frontd/shard/net/framed.h"
#include "frontd/shard/push/fanout.h"

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
