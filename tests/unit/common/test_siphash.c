#include <criterion/criterion.h>
#include <string.h>

#include "common/siphash.h"

/*
 * SipHash-1-3 of the bytes 0, 1, 2, … under the key of the bytes 0, 1, … 15, as OpenSSL has it:
 *   openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:8 \
 *       -macopt c-rounds:1 -macopt d-rounds:3 -in FILE SIPHASH
 * Its eight bytes are the number in little-endian order.
 */
static const struct {
    size_t n;
    uint64_t hash;
} cases[] = {
    {0, 0xabac0158050fc4dcULL},
    {1, 0xc9f49bf37d57ca93ULL},
    {2, 0x82cb9b024dc7d44dULL},
    {3, 0x8bf80ab8e7ddf7fbULL},
    {4, 0xcf75576088d38328ULL},
    {5, 0xdef9d52f49533b67ULL},
    {6, 0xc50d2b50c59f22a7ULL},
    {7, 0xd3927d989bb11140ULL},
    {8, 0x369095118d299a8eULL},
    {9, 0x25a48eb36c063de4ULL},
    {10, 0x79de85ee92ff097fULL},
    {11, 0x70c118c1f94dc352ULL},
    {12, 0x78a384b157b4d9a2ULL},
    {13, 0x306f760c1229ffa7ULL},
    {14, 0x605aa111c0f95d34ULL},
    {15, 0xd320d86d2a519956ULL},
    {16, 0xcc4fdd1a7d908b66ULL},
    {23, 0x525a0e7fdae6c123ULL},
    {24, 0xf464aeb267349c8cULL},
    {31, 0x2370dd1f8c21d1bcULL},
    {63, 0x9d199062b7bbb3a8ULL},
};

Test(hash, agrees_with_another_implementation)
{
    const struct hash_key key = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
    char bytes[64];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)i;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_assert_eq(hash_bytes(&key, bytes, cases[i].n), cases[i].hash, "%zu bytes", cases[i].n);
}

Test(hash, does_not_depend_on_alignment)
{
    const struct hash_key key = {1, 2};
    char text[] = "the quick brown fox jumps";
    char shifted[sizeof(text) + 1];
    memcpy(shifted + 1, text, sizeof(text));
    cr_assert_eq(hash_bytes(&key, text, sizeof(text)), hash_bytes(&key, shifted + 1, sizeof(text)));
}

Test(hash, keys_differ)
{
    struct hash_key a = hash_key_random();
    struct hash_key b = hash_key_random();
    cr_assert(a.k0 != b.k0 || a.k1 != b.k1);
    cr_assert_neq(hash_bytes(&a, "x", 1), hash_bytes(&b, "x", 1));
}
