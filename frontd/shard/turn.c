#include "frontd/shard/turn.h"

#include <errno.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/siphash.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"

int shard_ctx_init(struct ctx *ctx, const struct conf *conf, struct share *share)
{
    size_t size;
    ctx->conf = conf;
    ctx->share = share;
    ctx->count = share_counters(share, ctx->seat);
    for (size_t i = 0; i < SHARE_SEATS; i++)
        ctx->wake_fds[i] = -1;
    ctx->read_buf = mem_get(CTX_READ_SIZE, &size);
    if (ctx->read_buf == NULL)
        return -ENOMEM;
    uv_update_time(&ctx->loop);
    wheel_init(&ctx->wheel, ctx_now(ctx));
    ctx->dirty_tail = &ctx->dirty_clients;
    list_init(&ctx->dirty_streams);
    list_init(&ctx->busy_streams);
    list_init(&ctx->fanouts);
    ctx->later_tail = &ctx->later_clients;
    list_init(&ctx->quiet);
    list_init(&ctx->unused);
    memory_init(&ctx->memory, conf->limits.memory);
    wheel_timer_init(&ctx->memory_timer, TIMER_MEMORY);
    ctx->expect_seed = hash_key_random().k1;
    slab_init(&ctx->clients, sizeof(struct client));
    slab_init(&ctx->requests, sizeof(struct request));
    slab_init(&ctx->calls, sizeof(struct call));
    slab_init(&ctx->stays, sizeof(struct stay));
    slab_init(&ctx->queues, queue_slab_size());
    int r = idmap_init(&ctx->conns);
    r = r < 0 ? r : poller_init(&ctx->poller, &ctx->loop, client_ready, POLLER_ALL);
    return r < 0 ? r : poller_init(&ctx->writers, &ctx->loop, client_drained, WORK_TURN);
}

void shard_ctx_deinit(struct ctx *ctx)
{
    idmap_deinit(&ctx->conns);
    slab_deinit(&ctx->queues);
    slab_deinit(&ctx->stays);
    slab_deinit(&ctx->calls);
    slab_deinit(&ctx->requests);
    slab_deinit(&ctx->clients);
    mem_put(ctx->read_buf, CTX_READ_SIZE);
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (ctx->wake_fds[i] >= 0)
            close(ctx->wake_fds[i]);
    }
}

void shard_ctx_begin(struct ctx *ctx)
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

bool shard_ctx_unfinished(const struct ctx *ctx)
{
    return !list_empty(&ctx->fanouts) || !list_empty(&ctx->busy_streams) ||
           ctx->later_clients != NULL;
}

void shard_ctx_go_on(struct ctx *ctx, uint64_t work)
{
    uint64_t until = ctx->work + work;
    while (ctx->work < until && !(list_empty(&ctx->fanouts) && list_empty(&ctx->busy_streams))) {
        if (!list_empty(&ctx->fanouts))
            fanout_go_on(list_first(&ctx->fanouts, struct fanout, node), WORK_SLICE);
        if (!list_empty(&ctx->busy_streams))
            stream_go_on(list_first(&ctx->busy_streams, struct stream, busy), WORK_SLICE);
    }
}

void shard_ctx_flush(struct ctx *ctx)
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
