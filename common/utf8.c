#include "common/utf8.h"

#include <string.h>

/*
 * A state machine whose states are the table of RFC 3629 section 4, so that overlong forms,
 * surrogates and what is above U+10FFFF fail with the first byte that cannot be right. A state is
 * the number of bits by which a row of the table is shifted to find the next one: one load and one
 * shift a byte, and no branch.
 */
enum {
    UTF8_1 = 6,      /* one continuation byte to come */
    UTF8_2 = 12,     /* two */
    UTF8_3 = 18,     /* three */
    UTF8_E0 = 24,    /* after E0: not overlong */
    UTF8_ED = 30,    /* after ED: no surrogate */
    UTF8_F0 = 36,    /* after F0: not overlong */
    UTF8_F4 = 42,    /* after F4: not above U+10FFFF */
    UTF8_STATE = 63, /* the bits of a state */
};

#define IN(c, from, to) ((c) >= (from) && (c) <= (to))
#define LEAD(c)                                                                                    \
    ((c) < 0x80             ? UTF8_WHOLE                                                           \
        : IN(c, 0xc2, 0xdf) ? UTF8_1                                                               \
        : (c) == 0xe0       ? UTF8_E0                                                              \
        : (c) == 0xed       ? UTF8_ED                                                              \
        : IN(c, 0xe1, 0xef) ? UTF8_2                                                               \
        : (c) == 0xf0       ? UTF8_F0                                                              \
        : IN(c, 0xf1, 0xf3) ? UTF8_3                                                               \
        : (c) == 0xf4       ? UTF8_F4                                                              \
                            : UTF8_BAD)
#define STEP(c, state, from, to, next) ((uint64_t)(IN(c, from, to) ? (next) : UTF8_BAD) << (state))
#define ROW(c)                                                                                     \
    ((uint64_t)LEAD(c) << UTF8_WHOLE | STEP(c, UTF8_1, 0x80, 0xbf, UTF8_WHOLE) |                   \
        STEP(c, UTF8_2, 0x80, 0xbf, UTF8_1) | STEP(c, UTF8_3, 0x80, 0xbf, UTF8_2) |                \
        STEP(c, UTF8_E0, 0xa0, 0xbf, UTF8_1) | STEP(c, UTF8_ED, 0x80, 0x9f, UTF8_1) |              \
        STEP(c, UTF8_F0, 0x90, 0xbf, UTF8_2) | STEP(c, UTF8_F4, 0x80, 0x8f, UTF8_2) |              \
        (uint64_t)UTF8_BAD << UTF8_BAD)
#define ROW_4(c)  ROW(c), ROW((c) + 1), ROW((c) + 2), ROW((c) + 3)
#define ROW_16(c) ROW_4(c), ROW_4((c) + 4), ROW_4((c) + 8), ROW_4((c) + 12)
#define ROW_64(c) ROW_16(c), ROW_16((c) + 16), ROW_16((c) + 32), ROW_16((c) + 48)

static const uint64_t utf8_rows[256] = {
    ROW_64(0),
    ROW_64(64),
    ROW_64(128),
    ROW_64(192),
};

uint8_t utf8_feed(uint8_t begin, const char *p, size_t n)
{
    uint64_t state = begin;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof(word));
        if (LIKELY(state == UTF8_WHOLE && (word & UINT64_C(0x8080808080808080)) == 0))
            continue;
        for (size_t i = 0; i < 8; i++)
            state = utf8_rows[(unsigned char)p[i]] >> (state & UTF8_STATE);
        state &= UTF8_STATE;
        if (state == UTF8_BAD)
            return UTF8_BAD;
    }
    for (; n > 0; p++, n--)
        state = utf8_rows[(unsigned char)*p] >> (state & UTF8_STATE);
    return (uint8_t)(state & UTF8_STATE);
}
