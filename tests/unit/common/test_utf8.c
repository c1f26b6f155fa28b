#include <criterion/criterion.h>
#include <string.h>

#include "common/utf8.h"

/* The bytes of the character at p by arithmetic, or 0: what RFC 3629 says, not how it is found. */
static size_t reference(const char *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char lead = (unsigned char)p[0];
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc0 || lead > 0xf7 || n < length)
        return 0;
    uint32_t c = lead & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | ((unsigned char)p[i] & 0x3f);
    }
    return c < least[length] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : length;
}

/* The edges of all ranges of RFC 3629 section 4, and a byte within each. */
static const unsigned char edges[] = {0, 0x41, 0x7f, 0x80, 0x85, 0x8f, 0x90, 0x99, 0x9f, 0xa0, 0xa8,
    0xbf, 0xc0, 0xc1, 0xc2, 0xd5, 0xdf, 0xe0, 0xe1, 0xe7, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf2,
    0xf3, 0xf4, 0xf5, 0xf7, 0xf8, 0xff};

Test(utf8, each_four_bytes_as_the_rfc_has_them)
{
    const size_t kinds = ARRAY_LEN(edges);
    for (size_t i = 0; i < kinds * kinds * kinds * kinds; i++) {
        const char p[4] = {(char)edges[i % kinds], (char)edges[i / kinds % kinds],
            (char)edges[i / kinds / kinds % kinds], (char)edges[i / kinds / kinds / kinds]};
        for (size_t n = 1; n <= sizeof(p); n++) {
            size_t at = 0, length = 1;
            while (at < n && length > 0) {
                length = (unsigned char)p[at] < 0x80 ? 1 : reference(p + at, n - at);
                if ((unsigned char)p[at] >= 0x80)
                    cr_assert_eq(utf8_length(p + at, n - at), length);
                at += length;
            }
            cr_assert_eq(utf8_valid(p, n), length > 0, "%02x %02x %02x %02x, %zu of them",
                (unsigned char)p[0], (unsigned char)p[1], (unsigned char)p[2], (unsigned char)p[3],
                n);
        }
    }
}

Test(utf8, the_same_in_pieces)
{
    static const char text[] =
        "plain, then \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80, plain again, \xed\x9f\xbf";
    const size_t n = sizeof(text) - 1;
    for (size_t cut = 0; cut <= n; cut++) {
        uint8_t state = utf8_feed(UTF8_WHOLE, text, cut);
        cr_assert_neq(state, UTF8_BAD);
        cr_assert_eq(state == UTF8_WHOLE, utf8_valid(text, cut), "cut at %zu", cut);
        cr_assert_eq(utf8_feed(state, text + cut, n - cut), UTF8_WHOLE, "cut at %zu", cut);
        cr_assert_eq(utf8_feed(utf8_feed(state, "\xff", 1), text, n), UTF8_BAD, "cut at %zu", cut);
    }
    cr_assert(utf8_valid(NULL, 0));
}

/* Connections that move carry the state; another version of the program reads it. */
Test(utf8, states_keep_their_numbers)
{
    static const struct {
        const char *text;
        uint8_t state;
    } rows[] = {{"a", 0}, {"\xc3", 6}, {"\xe2", 12}, {"\xf1", 18}, {"\xe0", 24}, {"\xed", 30},
        {"\xf0", 36}, {"\xf4", 42}, {"\xff", 48}, {"\xf1\x80", 12}, {"\xe2\x82", 6}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_assert_eq(utf8_feed(UTF8_WHOLE, rows[i].text, strlen(rows[i].text)), rows[i].state);
}
