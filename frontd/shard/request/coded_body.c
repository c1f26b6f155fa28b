#include "frontd/shard/request/coded_body.h"

#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/content_coding.h"

enum { PER_REQUEST_SHIFT = 12 /* 4 KiB inflated take about as long as a small request */ };

bool coded_body_is_ours(
    const struct conf_route *route, const struct http_head *head, struct span body)
{
    return UNLIKELY(head->content_coded) && route->gunzip && body.n > 0 &&
           coding_of_body(head) == CODING_GZIP;
}

/* What may be held for the body: a buffer that grows is there twice for a moment. */
static size_t memory_left(const struct ctx *ctx)
{
    const uint64_t held = mem_held();
    if (ctx->memory.limit == 0)
        return SIZE_MAX;
    return held >= ctx->memory.limit ? 0 : (size_t)(ctx->memory.limit - held) / 2;
}

unsigned coded_body_read(struct client *client, struct span body, struct buf *out)
{
    struct ctx *ctx = client->ctx;
    if (UNLIKELY(ctx_memory(ctx) >= MEMORY_SHORT))
        return 503;
    const size_t limit = ctx->conf->limits.body, left = memory_left(ctx);
    const int r = gunzip_body(ctx->gunzip, body, MIN(limit, left), out);
    ctx->taken += (unsigned)(buf_len(out) >> PER_REQUEST_SHIFT);
    if (r == -EMSGSIZE)
        return left < limit && buf_len(out) > left ? 503 : 413;
    if (r == -ENOMEM)
        return 503;
    return r == 0 ? 0 : 400;
}
