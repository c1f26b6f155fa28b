#include "frontd/shard/net/expect.h"

#include <string.h>

/* Hashes a few bytes of each end of the name: names differ there, and all cost the same. */
uint16_t expect_kind(uint64_t seed, uint32_t pool, struct span name)
{
    uint64_t first = 0;
    uint64_t last = 0;
    size_t n = MIN(name.n, sizeof(first));
    if (n > 0) {
        memcpy(&first, name.p, n);
        memcpy(&last, name.p + name.n - n, n);
    }
    uint64_t mixed = (first ^ seed) * 0x9e3779b97f4a7c15ULL;
    mixed = (mixed ^ (mixed >> 32) ^ last) * 0xd6e8feb86659fd93ULL;
    mixed = (mixed ^ (mixed >> 32) ^ name.n ^ (uint64_t)pool << 32) * 0x9e3779b97f4a7c15ULL;
    return (uint16_t)(mixed >> 48 & (EXPECT_KINDS - 1));
}

uint32_t expect_size(struct expect *expect, uint16_t kind, uint32_t room, uint32_t calls,
    uint64_t now, bool *ret_shrinks)
{
    struct expect_kind *of = &expect->kinds[kind];
    *ret_shrinks = false;
    if (LIKELY(of->size > 0))
        return of->size;
    if (of->since == 0)
        of->since = MAX((uint32_t)now, 1U);
    uint32_t steps = ((uint32_t)now - of->since) / EXPECT_STEP_MS;
    uint32_t least = room / MAX(calls, (uint32_t)EXPECT_SHARES);
    uint32_t share = steps < 32 ? room >> steps : 0;
    if (share <= least)
        return least;
    *ret_shrinks = true;
    return share;
}

void expect_answered(struct expect *expect, uint16_t kind, size_t n)
{
    uint32_t *size = &expect->kinds[kind].size;
    uint32_t now = (uint32_t)MIN(MAX(n, (size_t)1), (size_t)UINT32_MAX);
    if (now >= *size)
        *size = now;
    else
        *size -= (*size - now + EXPECT_DECAY - 1) / EXPECT_DECAY;
}

void expect_at_least(struct expect *expect, uint16_t kind, size_t n)
{
    uint32_t *size = &expect->kinds[kind].size;
    *size = MAX(*size, (uint32_t)MIN(n, (size_t)UINT32_MAX));
}
