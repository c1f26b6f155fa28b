#include "frontd/shard/request/coded_body.h"

#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/content_coding.h"

/* About as long as a small request take 4 KiB inflated; or 512 bytes of blocks that have nothing
 * but the tables of their codes, from which nothing need come. */
enum { PER_REQUEST_SHIFT = 12, PER_REQUEST_CAME_SHIFT = 9 };

bool coded_body_is_ours(
    const struct conf_route *route, const struct http_head *head, struct span body)
{
    return UNLIKELY(head->content_coded) && route->gunzip && body.n > 0 &&
           coding_of_body(head) == CODING_GZIP;
}

unsigned coded_body_read(struct client *client, struct span body, struct buf *out)
{
    struct ctx *ctx = client->ctx;
    if (UNLIKELY(ctx_memory(ctx) >= MEMORY_SHORT))
        return 503;
    const size_t limit = ctx->conf->limits.body, left = memory_growth(&ctx->memory, mem_held());
    const int r = gunzip_body(ctx->gunzip, body, MIN(limit, left), out);
    ctx->taken += (unsigned)(buf_len(out) >> PER_REQUEST_SHIFT) +
                  (unsigned)(body.n >> PER_REQUEST_CAME_SHIFT);
    if (r == -EMSGSIZE)
        return left < limit && buf_len(out) > left ? 503 : 413;
    if (r == -ENOMEM)
        return 503;
    return r == 0 ? 0 : 400;
}
