#pragma once

/* SipHash-1-3 with a secret key: names that a peer chooses to collide cost no more than others. */

#include "common/base.h"

struct hash_key {
    uint64_t k0;
    uint64_t k1;
};

/* A new key from the kernel's random generator. CHECKs that it is available. */
struct hash_key hash_key_random(void);

uint64_t hash_bytes(const struct hash_key *key, const void *bytes, size_t n);
