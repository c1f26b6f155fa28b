#include "frontd/shard/request/policy.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/ipc/shm_limits.h"

static void find_row(struct ctx *ctx, const struct conf_policy *policy)
{
    int *row = &ctx->limit_rows[policy->number];
    *row = -1;
    if (policy->calls == 0 || policy->calls_of != policy->number)
        return;
    *row = share_limit_row(ctx->share, policy->id);
    if (*row < 0)
        log_error("`calls` of line %u cannot be counted: over %d such limits have been in configs "
                  "since the start",
            policy->line, SHARE_LIMITS);
}

int policy_init(struct ctx *ctx)
{
    const struct conf *conf = ctx->conf;
    if (conf->npolicies == 0)
        return 0;
    ctx->limit_rows = mem_zalloc(conf->npolicies * sizeof(*ctx->limit_rows));
    if (ctx->limit_rows == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        for (uint32_t k = 0; k < conf->listeners[i].nroutes; k++) {
            const struct conf_route *route = &conf->listeners[i].routes[k];
            for (uint32_t p = 0; p < route->npolicies; p++)
                find_row(ctx, &route->policies[p]);
        }
    }
    return 0;
}

void policy_deinit(struct ctx *ctx)
{
    ctx->limit_rows = mem_free(ctx->limit_rows);
}

/* What of the client is counted apart for a rate; `room` is for bytes that are made. */
static struct span subject_of(const struct request *request, const struct http_head *head,
    const struct conf_rate *rate, struct peer *room)
{
    const struct client *client = request->client;
    switch (rate->per) {
    case CONF_RATE_ALL: return (struct span){"", 0};
    case CONF_RATE_CONNECTION:
        return (struct span){(const char *)&client->conn.id, sizeof(client->conn.id)};
    case CONF_RATE_HEADER: {
        struct span name = {rate->header, strlen(rate->header)};
        const struct http_field *field = head == NULL ? NULL : http_head_find(head, name);
        return field == NULL ? (struct span){"", 0} : field->value; /* those without are one */
    }
    case CONF_RATE_PEER: break;
    }
    struct peer peer = request_peer(request);
    memcpy(room->bytes, peer.bytes, sizeof(room->bytes));
    room->family = peer.family;
    if (room->family == AF_INET6)
        peer_mask(room->bytes, client->ctx->conf->limits.peer_prefix);
    return (struct span){(const char *)room, sizeof(*room)};
}

/* All rates are asked, and what some have given is gone where another one says no: a client that
 * is refused has used them too. */
static enum rpc_error take_rates(
    struct request *request, const struct http_head *head, const struct conf_policy *policy)
{
    struct ctx *ctx = request->client->ctx;
    uint64_t wait = 0;
    for (uint32_t i = 0; i < policy->nrates; i++) {
        const struct conf_rate *rate = &policy->rates[i];
        struct peer room;
        memset(&room, 0, sizeof(room)); /* its padding is hashed, too */
        struct span of = subject_of(request, head, rate, &room);
        uint64_t more = share_rate_take(
            ctx->share, rate->id, of, ctx_now_us(ctx), rate->interval, rate->burst);
        wait = MAX(wait, more);
    }
    if (LIKELY(wait == 0))
        return 0;
    request->retry_after = (uint16_t)MIN(wait / 1000000 + 1, (uint64_t)UINT16_MAX);
    return RPC_RATE_LIMITED;
}

enum rpc_error policy_admit(struct request *request, struct span method,
    const struct http_head *head, struct call_spec *spec)
{
    struct ctx *ctx = request->client->ctx;
    const struct conf_route *route = request->route;
    if (LIKELY(route->npolicies == 0))
        return 0;
    const struct conf_policy *policy = conf_policy_of(route, method);
    if (policy == NULL)
        return 0;
    if (policy->denied)
        return RPC_METHOD_NOT_FOUND;
    if (policy->nrates > 0) {
        enum rpc_error error = take_rates(request, head, policy);
        if (error != 0)
            return error;
    }
    if (policy->calls > 0) {
        int row = ctx->limit_rows[policy->calls_of];
        if (row >= 0 && !share_limit_add(ctx->share, ctx->seat, row, policy->calls))
            return RPC_OVERLOADED;
        spec->limit = (uint32_t)(row + 1);
    }
    spec->policy = policy;
    /* A member of a batch that has waited has less left. */
    uint64_t waited = spec->timeout == 0 ? 0 : route->timeout - MIN(spec->timeout, route->timeout);
    spec->timeout = policy->timeout > waited ? policy->timeout - waited : 1;
    return 0;
}
