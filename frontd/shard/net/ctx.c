#include "frontd/shard/net/ctx.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/codec/coding_memory.h"

void ctx_wake(const struct ctx *ctx, unsigned seat)
{
    uint64_t one = 1;
    int fd = ctx->wake_fds[seat];
    /* One that is lost costs its calls a wait, until the shard looks by itself. */
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        CHECK(errno != EBADF && errno != EINVAL);
}

uint64_t ctx_read_us(struct ctx *ctx)
{
    ctx->now_us = uv_hrtime() / 1000;
    return ctx->now_us;
}

void ctx_count_gauges(struct ctx *ctx)
{
    struct shard_words *words = ctx->counts.shard;
    uint64_t connections = ctx->clients.used * ctx->clients.object_size +
                           ctx->duplexes.used * ctx->duplexes.object_size;
    uint64_t calls = ctx->calls.used * ctx->calls.object_size +
                     ctx->requests.used * ctx->requests.object_size +
                     ctx->queues.used * ctx->queues.object_size;
    uint64_t known = connections + calls + ctx->streamed + ctx->states + coding_held();
    uint64_t held = mem_held();
    uint64_t dropped = log_dropped();
    share_set(&words->memory[METRIC_USE_CONNECTIONS], connections);
    share_set(&words->memory[METRIC_USE_CALLS], calls);
    share_set(&words->memory[METRIC_USE_STREAMS], ctx->streamed);
    share_set(&words->memory[METRIC_USE_STATES], ctx->states);
    share_set(&words->memory[METRIC_USE_COMPRESSION], coding_held());
    share_set(&words->memory[METRIC_USE_OTHER], held - MIN(held, known));
    share_count(ctx->count->log_dropped, dropped - ctx->counts.log_dropped);
    ctx->counts.log_dropped = dropped;
}

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
