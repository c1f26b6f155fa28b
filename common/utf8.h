#pragma once

/*
 * UTF-8 as RFC 3629 section 4 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
 * Checked as it arrives in pieces (utf8_feed()), or character by character (utf8_length()).
 */

#include "common/base.h"

/* States of utf8_feed(). Others are within a character; all fit into a byte, and are the same in
 * each version of the program: connections that move carry theirs. */
enum {
    UTF8_WHOLE = 0, /* between two characters */
    UTF8_BAD = 48,  /* no text that begins like this is UTF-8 */
};

/*
 * The state after n more bytes, UTF8_WHOLE before the first ones. UTF8_BAD comes with the first
 * byte that cannot be right, and stays. A text that has ended is UTF-8 if the state is UTF8_WHOLE.
 */
uint8_t utf8_feed(uint8_t state, const char *p, size_t n);

/* Whether n bytes are UTF-8; no bytes are. */
static inline bool utf8_valid(const char *p, size_t n)
{
    return utf8_feed(UTF8_WHOLE, p, n) == UTF8_WHOLE;
}

static inline bool utf8_between(char c, unsigned char low, unsigned char high)
{
    return (unsigned char)c >= low && (unsigned char)c <= high;
}

/*
 * The bytes of the character at p that is not ASCII; 0: there is none, or it does not end within
 * the `left` bytes, at least 1. Faster than the states of utf8_feed() where characters come one by
 * one.
 */
static inline size_t utf8_length(const char *p, size_t left)
{
    const unsigned char lead = (unsigned char)*p;
    if (lead < 0xe0)
        return lead >= 0xc2 && left >= 2 && utf8_between(p[1], 0x80, 0xbf) ? 2 : 0;
    if (lead < 0xf0) {
        const unsigned char low = lead == 0xe0 ? 0xa0 : 0x80;
        const unsigned char high = lead == 0xed ? 0x9f : 0xbf;
        return left >= 3 && utf8_between(p[1], low, high) && utf8_between(p[2], 0x80, 0xbf) ? 3 : 0;
    }
    const unsigned char low = lead == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xf4 ? 0x8f : 0xbf;
    return lead <= 0xf4 && left >= 4 && utf8_between(p[1], low, high) &&
                   utf8_between(p[2], 0x80, 0xbf) && utf8_between(p[3], 0x80, 0xbf)
               ? 4
               : 0;
}
