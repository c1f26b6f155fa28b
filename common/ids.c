#include "common/ids.h"

static inline uint32_t rotr(uint32_t x, int bits)
{
    return (x >> bits) | (x << (32 - bits));
}

static inline uint32_t rotl(uint32_t x, int bits)
{
    return (x << bits) | (x >> (32 - bits));
}

static uint32_t read_word(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void expand_key(struct ids *ids, const uint8_t *key)
{
    uint32_t k = read_word(key);
    uint32_t l[3] = {read_word(key + 4), read_word(key + 8), read_word(key + 12)};
    for (uint32_t i = 0; i < IDS_ROUNDS; i++) {
        ids->round_keys[i] = k;
        l[i % 3] = (k + rotr(l[i % 3], 8)) ^ i;
        k = rotl(k, 3) ^ l[i % 3];
    }
}

void ids_init(struct ids *ids, const uint8_t key[static IDS_KEY_SIZE], uint64_t series)
{
    expand_key(ids, key);
    ids->last = series << IDS_SERIES_BITS;
}

uint64_t ids_encrypt(const struct ids *ids, uint64_t number)
{
    uint32_t x = (uint32_t)(number >> 32);
    uint32_t y = (uint32_t)number;
    for (size_t i = 0; i < IDS_ROUNDS; i++) {
        x = (rotr(x, 8) + y) ^ ids->round_keys[i];
        y = rotl(y, 3) ^ x;
    }
    return (uint64_t)x << 32 | y;
}

uint64_t ids_next(struct ids *ids)
{
    uint64_t id = ids_encrypt(ids, ++ids->last);
    return LIKELY(id != 0) ? id : ids_encrypt(ids, ++ids->last);
}
