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

uint32_t balance_ticket(uint64_t *random, uint32_t total)
{
    return random_below(random, total);
}

struct balance_order balance_order(
    uint32_t n, struct balance_pair pair, struct balance_load one, struct balance_load other)
{
    bool less = (uint64_t)other.load * one.weight < (uint64_t)one.load * other.weight;
    return (struct balance_order){.n = n, .first = less ? pair.other : pair.one};
}

uint32_t balance_next(struct balance_order *order)
{
    if (order->asked == order->n)
        return BALANCE_NONE;
    uint32_t at = order->first + order->asked++;
    return at < order->n ? at : at - order->n;
}

static uint64_t mix(uint64_t word)
{
    word *= 0x9e3779b97f4a7c15ULL;
    word ^= word >> 32;
    return word * 0xd6e8feb86659fd93ULL;
}

void balance_offer(struct balance_hash *best, uint32_t at, uint64_t rank, uint32_t weight)
{
    for (uint32_t chance = 0; chance < weight; chance++) {
        /* The first chance is the one of a worker without a weight. */
        uint64_t score = mix(best->hash ^ (chance == 0 ? rank : rank ^ mix(chance)));
        if (best->at != BALANCE_NONE && score <= best->score)
            continue;
        best->at = at;
        best->score = score;
    }
}
