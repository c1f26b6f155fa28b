#include "frontd/shard/ctx.h"

#include <time.h>

const char *ctx_date(struct ctx *ctx)
{
    uint64_t now = ctx_now(ctx);
    if (UNLIKELY(ctx->date[0] == '\0' || now - ctx->date_at >= 1000)) {
        struct timespec wall;
        clock_gettime(CLOCK_REALTIME, &wall);
        http1_date(wall.tv_sec, ctx->date);
        /* Stale again when the wall clock's second ends. */
        ctx->date_at = now - (uint64_t)wall.tv_nsec / 1000000;
    }
    return ctx->date;
}
