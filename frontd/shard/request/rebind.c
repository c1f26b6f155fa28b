#include "frontd/shard/request/rebind.h"

#include "common/log.h"
#include "frontd/shard/client/affinity.h"
#include "frontd/shard/request/conn_events.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/upstream/call.h"
#include "frontd/shard/upstream/worker.h"

enum { REBIND_BUCKETS = 512 /* of ctx->conns, in one turn */ };

static struct affinity *affinity_of(const struct client *client)
{
    return *client_session(client)->affinity(client);
}

static bool binds(const struct pool *pool)
{
    return pool->conf->on_worker_lost != CONF_LOST_UNNOTED;
}

/* Whether calls to that pool have no say in what the connection is bound to. */
static bool is_of_another(const struct affinity *affinity, const struct pool *pool)
{
    const struct pool *pools = pool->ctx->pools;
    if (affinity->pool == (uint32_t)(pool - pools))
        return false;
    return affinity->pool != AFFINITY_NO_POOL && binds(&pools[affinity->pool]);
}

/* The worker has the connection from now on. Returns false if it has to be told, and cannot be. */
static bool attach(struct client *client, struct affinity *affinity, struct worker *worker)
{
    const struct pool *pool = worker->pool;
    bool known = affinity->n > 0 || (affinity->home != 0 && binds(pool));
    if (known && event_rebound(client, affinity, worker) < 0)
        return false;
    affinity->home = worker->home;
    affinity->pool = (uint32_t)(pool - pool->ctx->pools);
    return true;
}

static void on_chosen(struct call *call, struct worker *worker)
{
    const struct pool *pool = worker->pool;
    struct client *client = client_find(pool->ctx, call->job.flow);
    if (client == NULL)
        return;
    struct affinity *affinity = affinity_of(client);
    if (affinity == NULL && binds(pool))
        affinity = affinity_need(client);
    if (affinity == NULL || affinity->home == worker->home || is_of_another(affinity, pool))
        return;
    attach(client, affinity, worker);
}

void rebind_init(struct ctx *ctx)
{
    ctx->call_chosen = on_chosen;
}

/* Returns whether the connection has to be looked at again. */
static bool settle(struct client *client, struct affinity *affinity)
{
    struct ctx *ctx = client->ctx;
    struct pool *pool = affinity->pool == AFFINITY_NO_POOL ? NULL : &ctx->pools[affinity->pool];
    if (pool == NULL || !binds(pool) || affinity->home == 0 ||
        pool_home(pool, affinity->home) != NULL)
        return false;
    if (client->arriving || !pool_settled(pool))
        return true;
    if (client->moving || client->state != CLIENT_OPEN)
        return false;
    if (pool->conf->on_worker_lost == CONF_LOST_CLOSE) {
        client_because(client, METRIC_REASON_WORKER);
        client_session(client)->set_code(client, WS_CODE_RESTART);
        client_session(client)->drain(client);
        ctx->rebind.closed++;
        return false;
    }
    struct peer peer = client_peer(client);
    uint64_t hash = meta_hash(pool->conf, client, &peer, NULL, (struct span){0});
    struct worker *worker = pool_by_hash(pool, hash, SPAN("frontd.rebound"));
    if (worker == NULL) /* none takes it; or there is none, and the next one will be looked at */
        return false;
    if (!attach(client, affinity, worker))
        return true;
    ctx->rebind.told++;
    return false;
}

static void say(const struct rebind *rebind)
{
    if (rebind->told > 0)
        log_info("%zu connections whose worker is gone have another one now", rebind->told);
    if (rebind->closed > 0)
        log_info("%zu connections whose worker is gone are closed", rebind->closed);
}

void rebind_turn(struct ctx *ctx)
{
    struct rebind *rebind = &ctx->rebind;
    if (LIKELY(!ctx->unsettled && !rebind->walking))
        return;
    if (ctx->bound == 0) {
        ctx->unsettled = rebind->walking = rebind->again = false;
        return;
    }
    if (!rebind->walking || rebind->mask != ctx->conns.mask) {
        /* Whatever is unsettled by now is found in this walk, from its beginning. */
        *rebind = (struct rebind){.walking = true, .mask = ctx->conns.mask, .again = rebind->again};
        ctx->unsettled = false;
    }
    size_t end = MIN(rebind->at + REBIND_BUCKETS, rebind->mask + 1);
    for (; rebind->at < end; rebind->at++) {
        struct idmap_node *next;
        for (struct idmap_node *node = ctx->conns.buckets[rebind->at]; node != NULL; node = next) {
            struct client *client = container_of(node, struct client, conn);
            struct affinity *affinity = affinity_of(client);
            next = node->next; /* the client may be gone */
            if (affinity != NULL)
                rebind->again |= settle(client, affinity);
        }
    }
    rebind->walking = rebind->at <= rebind->mask;
    if (!rebind->walking)
        say(rebind);
}

void rebind_beat(struct ctx *ctx)
{
    ctx->unsettled |= ctx->rebind.again;
    ctx->rebind.again = false;
}
