#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/ids.h"

/* The key of the paper's appendix C for SPECK64/128: 1b1a1918 13121110 0b0a0908 03020100. */
static const uint8_t paper_key[IDS_KEY_SIZE] = {
    0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13, 0x18, 0x19, 0x1a, 0x1b};

Test(ids, agrees_with_the_paper)
{
    struct ids ids;
    ids_init(&ids, paper_key, 0);
    cr_expect_eq(ids_encrypt(&ids, 0x3b7265747475432dULL), 0x8c6fa548454e028bULL);
}

/* The cipher backwards, from its definition. */
static uint64_t decrypt(const struct ids *ids, uint64_t id)
{
    uint32_t x = (uint32_t)(id >> 32);
    uint32_t y = (uint32_t)id;
    for (size_t i = IDS_ROUNDS; i-- > 0;) {
        y ^= x;
        y = y >> 3 | y << 29;
        x = (x ^ ids->round_keys[i]) - y;
        x = x << 8 | x >> 24;
    }
    return (uint64_t)x << 32 | y;
}

static int compare(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

Test(ids, none_is_given_twice)
{
    enum { SERIES = 64, EACH = 1000 };
    static uint64_t all[SERIES * EACH];
    size_t n = 0;
    for (uint64_t series = 0; series < SERIES; series++) {
        struct ids ids;
        ids_init(&ids, paper_key, UINT64_C(0xffffff) - series); /* as incarnations count up */
        for (size_t i = 0; i < EACH; i++) {
            uint64_t id = ids_next(&ids);
            cr_assert_neq(id, 0);
            uint64_t series_bits = decrypt(&ids, id) >> IDS_SERIES_BITS;
            cr_assert_eq(series_bits, UINT64_C(0xffffff) - series);
            all[n++] = id;
        }
    }
    qsort(all, n, sizeof(*all), compare);
    for (size_t i = 1; i < n; i++)
        cr_assert_neq(all[i], all[i - 1]);
}

Test(ids, more_than_32_bits_of_them_in_a_series)
{
    struct ids ids;
    ids_init(&ids, paper_key, 7);
    uint64_t first = ids_next(&ids);
    ids.last = ((uint64_t)7 << IDS_SERIES_BITS) + UINT32_MAX;
    ids_next(&ids);
    uint64_t later = ids_next(&ids);
    cr_expect_neq(later, first);
    cr_expect_eq(decrypt(&ids, first), ((uint64_t)7 << IDS_SERIES_BITS) + 1);
    cr_expect_eq(decrypt(&ids, later), ((uint64_t)7 << IDS_SERIES_BITS) + 0x100000001);
}

Test(ids, zero_is_skipped)
{
    struct ids ids;
    ids_init(&ids, paper_key, 0);
    uint64_t of_zero = decrypt(&ids, 0);
    ids.last = of_zero - 1;
    uint64_t id = ids_next(&ids);
    cr_expect_neq(id, 0);
    cr_expect_eq(id, ids_encrypt(&ids, of_zero + 1));
}

static unsigned bits_that_differ(uint64_t a, uint64_t b)
{
    return (unsigned)__builtin_popcountll(a ^ b);
}

/* Half of the bits, wherever it is that two keys or numbers differ. */
Test(ids, neighbours_and_other_keys_have_nothing_in_common)
{
    enum { N = 4096 };
    struct ids ids;
    ids_init(&ids, paper_key, 12);
    uint64_t sum = 0;
    for (uint64_t i = 0, before = ids_next(&ids); i < N; i++) {
        uint64_t id = ids_next(&ids);
        sum += bits_that_differ(id, before);
        before = id;
    }
    cr_expect(sum > N * 31 && sum < N * 33, "%llu", (unsigned long long)sum);
    for (size_t bit = 0; bit < IDS_KEY_SIZE * 8; bit++) {
        uint8_t key[IDS_KEY_SIZE];
        struct ids other;
        memcpy(key, paper_key, sizeof(key));
        key[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ids_init(&other, key, 12);
        sum = 0;
        for (uint64_t i = 0; i < N; i++)
            sum += bits_that_differ(ids_encrypt(&ids, i), ids_encrypt(&other, i));
        cr_expect(sum > N * 31 && sum < N * 33, "bit %zu: %llu", bit, (unsigned long long)sum);
    }
}
