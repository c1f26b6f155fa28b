#pragma once

/*
 * Numbers that are given once only, and that nobody can guess who does not have the key, however
 * many of them they have seen: a block cipher of 64-bit blocks over numbers that count up. Being a
 * permutation, it never gives the same number for two.
 *
 * The cipher is SPECK64/128 (Beaulieu et al., "The SIMON and SPECK Families of Lightweight Block
 * Ciphers", 2013): small, and fast without hardware for it.
 */

#include "common/base.h"

enum {
    IDS_KEY_SIZE = 16, /* bytes */
    IDS_ROUNDS = 27,
    /* How many there are in a series: at 10,000 a second they last 3 years. */
    IDS_SERIES_BITS = 40,
};

struct ids {
    uint32_t round_keys[IDS_ROUNDS];
    uint64_t last; /* what the last one was made of */
};

/*
 * Begins a series. Under one key, no two with the same lowest 24 bits of `series` give the same
 * number.
 */
void ids_init(struct ids *ids, const uint8_t key[static IDS_KEY_SIZE], uint64_t series);

/* The next one; never 0. */
uint64_t ids_next(struct ids *ids);

/* What a number becomes under the key. */
uint64_t ids_encrypt(const struct ids *ids, uint64_t number);
