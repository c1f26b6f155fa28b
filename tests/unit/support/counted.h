#pragma once

/* What a shard has counted, of all rows of its seat together. */

#include "frontd/ipc/metric_sums.h"
#include "frontd/shard/net/ctx.h"

static inline uint64_t counted_handshakes(const struct ctx *ctx, bool succeeded)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(ctx->count->handshakes); i++) {
        bool ok = i % METRIC_HANDSHAKE_COUNT <= METRIC_HANDSHAKE_RESUMED;
        n += ok == succeeded ? ctx->count->handshakes[i] : 0;
    }
    return n;
}

static inline uint64_t counted_resumed(const struct ctx *ctx)
{
    uint64_t n = 0;
    for (unsigned version = 0; version < METRIC_VERSION_COUNT; version++)
        n += ctx->count->handshakes[version * METRIC_HANDSHAKE_COUNT + METRIC_HANDSHAKE_RESUMED];
    return n;
}

static inline uint64_t counted_closed(const struct ctx *ctx)
{
    uint64_t n = 0;
    for (unsigned l = 0; l < CONF_LISTENERS_MAX; l++) {
        const struct listener_words *words = ctx->counts.listeners[l];
        for (unsigned i = 0; words != NULL && i < ARRAY_LEN(words->closed); i++)
            n += words->closed[i];
    }
    return n;
}
