#pragma once

/*
 * Numbers that are given once only and cannot be guessed without the key, however many of them are
 * known: a block cipher of 64-bit blocks over numbers that count up. Being a permutation, it never
 * gives the same number for two.
 */

#include "common/base.h"

enum {
    IDS_KEY_SIZE = 16, /* bytes */
    IDS_ROUNDS = 27,
    /* Numbers in a series: at 10,000 a second they last 3 years. */
    IDS_SERIES_BITS = 40,
};

struct ids {
    uint32_t round_keys[IDS_ROUNDS];
    uint64_t last; /* the number that the last id was made of */
};

/*
 * Begins a series. Under one key, no two with the same lowest 24 bits of `series` give the same
 * number.
 */
void ids_init(struct ids *ids, const uint8_t key[static IDS_KEY_SIZE], uint64_t series);

/* The next id; never 0. */
uint64_t ids_next(struct ids *ids);

/* The number encrypted under the key. */
uint64_t ids_encrypt(const struct ids *ids, uint64_t number);
