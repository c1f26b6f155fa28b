#include "frontd/shard/upstream/balance.h"

/* xorshift64: cheap, and even enough for a draw. */
static uint32_t random_below(uint64_t *random, uint32_t n)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (uint32_t)(((*random >> 32) * n) >> 32);
}

struct balance_pair balance_draw(uint64_t *random, uint32_t n)
{
    if (n == 1)
        return (struct balance_pair){0, 0};
    uint32_t one = random_below(random, n);
    uint32_t other = random_below(random, n - 1);
    other += other >= one;
    return (struct balance_pair){one, other};
}

bool balance_may_have(uint64_t *random, uint32_t part, uint32_t most)
{
    return part >= most || random_below(random, most) < part;
}

struct balance_order balance_order(
    uint32_t n, struct balance_pair pair, uint32_t load_of_one, uint32_t load_of_other)
{
    return (struct balance_order){
        .n = n, .first = load_of_other < load_of_one ? pair.other : pair.one};
}

uint32_t balance_next(struct balance_order *order)
{
    if (order->asked == order->n)
        return BALANCE_NONE;
    uint32_t at = order->first + order->asked++;
    return at < order->n ? at : at - order->n;
}

void balance_offer(struct balance_hash *best, uint32_t at, uint64_t rank)
{
    uint64_t weight = (best->hash ^ rank) * 0x9e3779b97f4a7c15ULL;
    weight ^= weight >> 32;
    weight *= 0xd6e8feb86659fd93ULL;
    if (best->at != BALANCE_NONE && weight <= best->weight)
        return;
    best->at = at;
    best->weight = weight;
}
