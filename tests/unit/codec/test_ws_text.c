#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/ws_frame.h"

/* Text messages that are UTF-8 (RFC 3629) or not, and when that is told (RFC 6455 section 8.1). */

static const struct ws_limits roomy = {.message = 1 << 20, .frame = 1 << 20};

/* Instead of the place at which a text is found to be none. */
enum { FINE = -1, CUT_OFF = -2, UNDECIDED = -3 };

/*
 * Sends a text in frames of `step` bytes, which are handed over one byte at a time. Returns how
 * many bytes stand before the one with which it was refused, or FINE.
 */
static int judge(const char *text, size_t n, size_t step)
{
    struct ws ws = {0};
    char control[WS_CONTROL_MAX];
    char *p = malloc(n + 16);
    cr_assert_not_null(p);
    size_t kept = 0, done = 0;
    int verdict = UNDECIDED;
    do {
        const size_t part = MIN(step, n - done);
        const bool last = done + part == n;
        const uint8_t mask[4] = {0x80, 0xff, 1, (uint8_t)(0x55 + done)};
        uint8_t frame[6 + 125];
        cr_assert_leq(part, 125);
        frame[0] = (uint8_t)((last ? 0x80 : 0) | (done == 0 ? WS_TEXT : WS_CONTINUATION));
        frame[1] = (uint8_t)(0x80 | part);
        memcpy(frame + 2, mask, 4);
        for (size_t i = 0; i < part; i++)
            frame[6 + i] = (uint8_t)((uint8_t)text[done + i] ^ mask[i % 4]);
        for (size_t i = 0; i < 6 + part && verdict == UNDECIDED; i++) {
            p[kept] = (char)frame[i];
            const struct ws_result result = ws_feed(&ws, p, kept + 1, &roomy, control);
            kept = result.kept;
            if (result.event == WS_EVENT_MORE)
                continue;
            if (result.event == WS_EVENT_MESSAGE) {
                cr_assert(last && i == 6 + part - 1);
                cr_assert(result.payload.n == n && memcmp(result.payload.p, text, n) == 0);
                verdict = FINE;
            } else {
                cr_assert_eq(result.event, WS_EVENT_ERROR);
                cr_assert_eq(result.code, WS_CODE_BAD_DATA);
                verdict = (int)(done + i - 6);
            }
        }
        done += part;
    } while (done < n && verdict == UNDECIDED);
    free(p);
    return verdict;
}

/* In one piece; it ends where the memory does. */
static bool accepts(const char *text, size_t n)
{
    struct ws ws = {0};
    char control[WS_CONTROL_MAX], *p = malloc(6 + n);
    cr_assert(p != NULL && n <= 125);
    memcpy(p, (const char[]){(char)0x81, (char)(0x80 | n), 0, 0, 0, 0}, 6);
    memcpy(p + 6, text, n);
    const struct ws_result result = ws_feed(&ws, p, 6 + n, &roomy, control);
    free(p);
    if (result.event == WS_EVENT_MESSAGE)
        return true;
    cr_assert(result.event == WS_EVENT_ERROR && result.code == WS_CODE_BAD_DATA);
    return false;
}

#define IN(literal) literal, sizeof(literal) - 1

Test(ws_text, invalid_as_soon_as_certain)
{
    static const struct {
        const char *text;
        size_t n;
        int at; /* the byte that cannot be right; CUT_OFF: only the end is wrong */
    } rows[] = {
        {IN("a"), FINE},
        {IN("\xc2\x80\xdf\xbf"), FINE},
        {IN("\xe0\xa0\x80\xec\xbf\xbf\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"), FINE},
        {IN("\xf0\x90\x80\x80\xf3\xbf\xbf\xbf\xf4\x8f\xbf\xbf"), FINE},
        {IN("\xef\xbb\xbf"), FINE},
        {IN("a\0\x7f"), FINE},

        /* continuation bytes without a lead */
        {IN("\x80"), 0},
        {IN("\xbf"), 0},
        {IN("\xc2\x80\x80"), 2},
        {IN("\xe2\x82\xac\xac"), 3},
        {IN("\xf0\x9f\x98\x80\x80"), 4},
        /* bytes that never stand in UTF-8 */
        {IN("\xc0"), 0},
        {IN("\xc1"), 0},
        {IN("\xf5"), 0},
        {IN("\xf8"), 0},
        {IN("\xfc"), 0},
        {IN("\xfe"), 0},
        {IN("\xff"), 0},
        /* a lead without its continuation */
        {IN("\xc3 "), 1},
        {IN("\xc3\xc3"), 1},
        {IN("\xe2 "), 1},
        {IN("\xe2\x82 "), 2},
        {IN("\xe2\x82\xe2"), 2},
        {IN("\xf0 "), 1},
        {IN("\xf0\x9f "), 2},
        {IN("\xf0\x9f\x98 "), 3},
        {IN("\xf0\x9f\x98\xf0"), 3},
        /* not even where a whole word of plain bytes stands in between */
        {IN("1234567\xc3"
            "abcdefgh\xa4"),
            8},
        /* overlong: with the first byte that makes it so */
        {IN("\xc0\x80"), 0},
        {IN("\xc0\xaf"), 0},
        {IN("\xc1\xbf"), 0},
        {IN("\xe0\x80\x80"), 1},
        {IN("\xe0\x9f\xbf"), 1},
        {IN("\xf0\x80\x80\x80"), 1},
        {IN("\xf0\x8f\xbf\xbf"), 1},
        /* surrogates */
        {IN("\xed\xa0\x80"), 1},
        {IN("\xed\xaf\xbf"), 1},
        {IN("\xed\xb0\x80"), 1},
        {IN("\xed\xbf\xbf"), 1},
        /* above U+10FFFF */
        {IN("\xf4\x90\x80\x80"), 1},
        {IN("\xf4\xbf\xbf\xbf"), 1},
        {IN("\xf5\x80\x80\x80"), 0},
        {IN("\xf7\xbf\xbf\xbf"), 0},
        /* cut off */
        {IN("\xc3"), CUT_OFF},
        {IN("\xe2"), CUT_OFF},
        {IN("\xe2\x82"), CUT_OFF},
        {IN("\xe0"), CUT_OFF},
        {IN("\xe0\xa0"), CUT_OFF},
        {IN("\xed"), CUT_OFF},
        {IN("\xed\x9f"), CUT_OFF},
        {IN("\xf0"), CUT_OFF},
        {IN("\xf0\x9f"), CUT_OFF},
        {IN("\xf0\x9f\x98"), CUT_OFF},
        {IN("\xf4"), CUT_OFF},
        {IN("\xf4\x8f\xbf"), CUT_OFF},
    };
    /* what stands before and after: on either side of the words that are looked at at once */
    static const char *const before[] = {"", "a", "1234567", "12345678", "1234567\xc3\xa4",
        "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", "the quick brown fox "};
    static const char *const after[] = {"", "z", "123456789012345678"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t b = 0; b < ARRAY_LEN(before); b++) {
            for (size_t a = 0; a < ARRAY_LEN(after); a++) {
                char text[64];
                size_t n = strlen(before[b]);
                memcpy(text, before[b], n);
                memcpy(text + n, rows[i].text, rows[i].n);
                int at = rows[i].at < 0 ? rows[i].at : (int)n + rows[i].at;
                n += rows[i].n;
                if (at == CUT_OFF) /* by what follows, or by the end, which the last byte is */
                    at = (int)(after[a][0] != '\0' ? n : n - 1);
                memcpy(text + n, after[a], strlen(after[a]));
                n += strlen(after[a]);
                for (size_t step = 1; step <= n; step++)
                    cr_assert_eq(judge(text, n, step), at, "row %zu, %zu, %zu, frames of %zu: %d",
                        i, b, a, step, judge(text, n, step));
                cr_assert_eq(accepts(text, n), at == FINE);
            }
        }
    }
}

/* An empty last frame does not complete a character. */
Test(ws_text, cut_off_before_an_empty_frame)
{
    struct ws ws = {0};
    char control[WS_CONTROL_MAX];
    char p[] = "\x01\x81\0\0\0\0\xc3\x00\x80\0\0\0\0\x80\x80\0\0\0\0";
    const struct ws_result result = ws_feed(&ws, p, sizeof(p) - 1, &roomy, control);
    cr_assert(result.event == WS_EVENT_ERROR && result.code == WS_CODE_BAD_DATA);
    /* and the next message does not begin within one */
    ws = (struct ws){0};
    char q[] = "\x02\x81\0\0\0\0\xc3\x80\x80\0\0\0\0\x81\x81\0\0\0\0a";
    struct ws_result first = ws_feed(&ws, q, sizeof(q) - 1, &roomy, control);
    cr_assert(first.event == WS_EVENT_MESSAGE && first.opcode == WS_BINARY);
    first = ws_feed(&ws, q + first.used, sizeof(q) - 1 - first.used, &roomy, control);
    cr_assert(first.event == WS_EVENT_MESSAGE && first.opcode == WS_TEXT && first.payload.n == 1);
}

/* A character of any value, written without asking whether it may be. */
static size_t put_character(char *out, uint32_t c, size_t width)
{
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = width - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(leads[width] | c);
    return width;
}

Test(ws_text, every_code_point)
{
    for (uint32_t c = 0; c < 0x1fffff; c++) {
        const bool valid = c < 0xd800 || (c > 0xdfff && c <= 0x10ffff);
        const size_t shortest = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        char text[4];
        for (size_t width = shortest; width <= 4; width++) {
            put_character(text, c, width);
            const bool ok = accepts(text, width);
            cr_assert_eq(ok, valid && width == shortest, "U+%04x in %zu bytes", c, width);
        }
        if (c >= 0x11000 && c < 0x10f000)
            c += 250; /* the planes in between are alike */
    }
}
