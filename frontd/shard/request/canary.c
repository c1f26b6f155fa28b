#include "frontd/shard/request/canary.h"

#include <strings.h>

#include "common/siphash.h"
#include "frontd/shard/request/router.h"
#include "frontd/shard/upstream/pool.h"

static bool is_text(struct span value, const char *text)
{
    return value.n == strlen(text) && strncasecmp(value.p, text, value.n) == 0;
}

/* The same in every shard and generation, and another one than pools hash by. */
static bool is_of_percent(const struct peer *peer, uint64_t conn, uint32_t percent)
{
    static const struct hash_key key = {0x66726f6e74640002ULL, 0x63616e6172790001ULL};
    struct span of = {(const char *)peer->bytes, sizeof(peer->bytes)};
    if (peer->family == AF_UNIX)
        of = (struct span){(const char *)&conn, sizeof(conn)};
    return hash_bytes(&key, of.p, of.n) % 100 < percent;
}

bool canary_takes(const struct conf_route *route, const struct peer *peer, uint64_t conn,
    const struct http_head *head)
{
    if (LIKELY(!route->canary))
        return false;
    const struct http_field *field = NULL;
    if (head != NULL && route->canary_header != NULL)
        field = http_head_find(
            head, (struct span){route->canary_header, strlen(route->canary_header)});
    if (field != NULL && is_text(field->value, "always"))
        return true;
    if (field != NULL && is_text(field->value, "never"))
        return false;
    return is_of_percent(peer, conn, route->canary_percent);
}

int canary_pool(
    const struct ctx *ctx, const struct conf_route *route, struct span method, bool canary)
{
    if (UNLIKELY(canary && route->canary)) {
        const uint32_t pool = route->pools[route->npools - 1];
        const struct conf_pool *conf = &ctx->conf->pools[pool];
        if (ctx->pools[pool].nready > 0 &&
            conf_method_listed(conf->methods, conf->nmethods, method))
            return (int)pool;
    }
    return router_pool(ctx->conf, route, method);
}
