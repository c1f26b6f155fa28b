#include "proto/json_scan.h"

#include <string.h>

#include "common/utf8.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* A byte that may stand in a string as it is, and is ASCII: RFC 8259 section 7. */
static inline bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

#ifndef __SSE2__
/* True if a byte of `x` is not plain; may be true without one, since borrows run upwards. */
static inline bool any_special(uint64_t x)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t quote = x ^ (ones * '"');
    const uint64_t backslash = x ^ (ones * '\\');
    uint64_t found = x | ((x - ones * 0x20) & ~x);
    found |= (quote - ones) & ~quote;
    found |= (backslash - ones) & ~backslash;
    return (found & (ones * 0x80)) != 0;
}
#endif

/* The next byte of a string that is not plain. Most bytes of most texts only pass here. */
static inline const char *skip_plain(const char *p, const char *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i backslash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(' ');

    while (end - p >= 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* Signed: bytes from 0x80 up are below the space too, and one comparison finds both. */
        __m128i found = _mm_cmplt_epi8(x, space);
        found = _mm_or_si128(found, _mm_cmpeq_epi8(x, quote));
        found = _mm_or_si128(found, _mm_cmpeq_epi8(x, backslash));
        const unsigned mask = (unsigned)_mm_movemask_epi8(found);
        if (mask != 0)
            return p + __builtin_ctz(mask);
        p += 16;
    }
#else
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, sizeof(x));
        if (any_special(x))
            break;
        p += 8;
    }
#endif
    while (p < end && is_plain((unsigned char)*p))
        p++;
    return p;
}

/* Skips characters of more than one byte, as many as follow each other; NULL: not UTF-8. */
static const char *skip_utf8(const char *p, const char *end)
{
    do {
        const size_t n = utf8_length(p, (size_t)(end - p));
        if (n == 0)
            return NULL;
        p += n;
    } while (p < end && (unsigned char)*p >= 0x80);
    return p;
}

/* The value of a hexadecimal digit, or -1. */
static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/*
 * Skips an escape. Surrogates need not come in pairs: the grammar of section 7 allows it, section
 * 8.2 warns of it.
 */
static const char *skip_escape(const char *p, const char *end)
{
    if (end - p < 2)
        return NULL;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't': return p + 2;
    case 'u':
        if (end - p < 6)
            return NULL;
        for (int i = 2; i < 6; i++) {
            if (hex_digit(p[i]) < 0)
                return NULL;
        }
        return p + 6;
    default: return NULL;
    }
}

/*
 * Scans from behind the opening quote to behind the closing one. *ret_odd is set, never cleared,
 * where the string has escapes, or characters beyond ASCII.
 */
static inline const char *scan_string(const char *p, const char *end, bool *ret_odd)
{
    for (;;) {
        p = skip_plain(p, end);
        if (p == end)
            return NULL;
        if (LIKELY(*p == '"'))
            return p + 1;
        *ret_odd = true;
        if (*p == '\\') {
            p = skip_escape(p, end);
        } else if ((unsigned char)*p >= 0x80) {
            p = skip_utf8(p, end);
        } else {
            return NULL;
        }
        if (p == NULL)
            return NULL;
    }
}

/* Scans one or more digits. */
static inline const char *scan_digits(const char *p, const char *end)
{
    if (p == end || !is_digit(*p))
        return NULL;
    do {
        p++;
    } while (p < end && is_digit(*p));
    return p;
}

/* RFC 8259 section 6 */
static const char *scan_number(const char *p, const char *end)
{
    if (*p == '-')
        p++;
    if (p < end && *p == '0')
        p++; /* no digit may follow a 0 */
    else if ((p = scan_digits(p, end)) == NULL)
        return NULL;

    if (p < end && *p == '.') {
        p = scan_digits(p + 1, end);
        if (p == NULL)
            return NULL;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = scan_digits(p, end);
    }
    return p;
}

static inline const char *scan_literal(const char *p, const char *end, struct span literal)
{
    if ((size_t)(end - p) < literal.n || memcmp(p, literal.p, literal.n) != 0)
        return NULL;
    return p + literal.n;
}

/* Scans any value but an array or object; p < end. */
static inline const char *scan_scalar(const char *p, const char *end)
{
    bool odd;

    switch (*p) {
    case '"': return scan_string(p + 1, end, &odd);
    case 't': return scan_literal(p, end, SPAN("true"));
    case 'f': return scan_literal(p, end, SPAN("false"));
    case 'n': return scan_literal(p, end, SPAN("null"));
    default: return scan_number(p, end);
    }
}

/* Scans "key" and colon, with the white space between and after them. */
static inline const char *scan_key(
    const char *p, const char *end, struct span *ret_key, bool *ret_odd)
{
    if (p == end || *p != '"')
        return NULL;
    const char *inside = p + 1;
    p = scan_string(inside, end, ret_odd);
    if (p == NULL)
        return NULL;
    *ret_key = (struct span){inside, (size_t)(p - 1 - inside)};
    p = json_scan_white(p, end);
    if (p == end || *p != ':')
        return NULL;
    return json_scan_white(p + 1, end);
}

const char *json_scan_value(const char *p, const char *end, unsigned depth)
{
    /* a bit for each open level: it is an object */
    uint64_t kinds[JSON_SCAN_DEPTH_MAX / 64] = {0};
    const unsigned outer = depth;
    bool in_object = false;

    for (;;) {
        if (in_object) {
            struct span key;
            bool odd;
            p = scan_key(p, end, &key, &odd);
            if (p == NULL)
                return NULL;
        }
        if (p == end)
            return NULL;
        if (*p == '{' || *p == '[') {
            if (depth >= JSON_SCAN_DEPTH_MAX)
                return NULL;
            in_object = *p == '{';
            const uint64_t bit = UINT64_C(1) << (depth % 64);
            if (in_object)
                kinds[depth / 64] |= bit;
            else
                kinds[depth / 64] &= ~bit;
            depth++;
            p = json_scan_white(p + 1, end);
            if (p == end)
                return NULL;
            if (*p != (in_object ? '}' : ']'))
                continue;
        } else {
            p = scan_scalar(p, end);
            if (p == NULL)
                return NULL;
        }

        /* Here a value has ended, or an empty array or object is about to end. */
        for (;;) {
            if (depth == outer)
                return p;
            p = json_scan_white(p, end);
            if (p == end)
                return NULL;
            if (*p == ',')
                break;
            if (*p != (in_object ? '}' : ']'))
                return NULL;
            p++;
            depth--;
            if (depth > outer)
                in_object = (kinds[(depth - 1) / 64] >> ((depth - 1) % 64)) & 1;
        }
        p = json_scan_white(p + 1, end);
    }
}

const char *json_scan_member(
    const char *p, const char *end, unsigned depth, struct json_member *ret_member)
{
    ret_member->odd = false;
    p = scan_key(p, end, &ret_member->key, &ret_member->odd);
    if (p == NULL || p == end)
        return NULL;
    const char *value = p;
    if (*p == '{' || *p == '[')
        p = json_scan_value(p, end, depth + 1);
    else
        p = scan_scalar(p, end);
    if (p == NULL)
        return NULL;
    ret_member->value = (struct span){value, (size_t)(p - value)};
    return p;
}

const char *json_scan_object(const char *p, const char *end, unsigned depth,
    const struct span *keys, size_t count, struct span *ret_values)
{
    for (size_t i = 0; i < count; i++)
        ret_values[i] = (struct span){NULL, 0};
    if (p == end || *p != '{' || depth >= JSON_SCAN_DEPTH_MAX)
        return NULL;
    p = json_scan_white(p + 1, end);
    if (p < end && *p == '}')
        return p + 1;

    for (;;) {
        struct json_member member;
        p = json_scan_member(p, end, depth, &member);
        if (p == NULL)
            return NULL;

        for (size_t i = 0; i < count; i++) {
            const struct span key = member.key;
            const bool same = UNLIKELY(member.odd)
                                  ? json_scan_equals(key, keys[i])
                                  : key.n == keys[i].n &&
                                        (key.n == 0 || memcmp(key.p, keys[i].p, key.n) == 0);
            if (same) {
                ret_values[i] = member.value;
                break;
            }
        }

        p = json_scan_white(p, end);
        if (p == end)
            return NULL;
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = json_scan_white(p + 1, end);
    }
}

/* Reads the four digits of \uXXXX. */
static uint32_t read_unit(const char *p, const char *end)
{
    uint32_t unit = 0;

    CHECK(end - p >= 6);
    for (int i = 2; i < 6; i++)
        unit = unit << 4 | (uint32_t)hex_digit(p[i]);
    return unit;
}

static size_t put_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* Resolves the escape at `p` into 1 to 4 bytes; returns the cursor behind it. */
static const char *resolve_escape(const char *p, const char *end, char out[4], size_t *ret_n)
{
    CHECK(end - p >= 2);
    *ret_n = 1;
    switch (p[1]) {
    case 'b': out[0] = '\b'; return p + 2;
    case 'f': out[0] = '\f'; return p + 2;
    case 'n': out[0] = '\n'; return p + 2;
    case 'r': out[0] = '\r'; return p + 2;
    case 't': out[0] = '\t'; return p + 2;
    case 'u': break;
    default: out[0] = p[1]; return p + 2; /* quote, backslash, slash */
    }

    uint32_t c = read_unit(p, end);
    p += 6;
    if (c >= 0xd800 && c <= 0xdfff) {
        uint32_t low = 0;
        if (c <= 0xdbff && end - p >= 6 && p[0] == '\\' && p[1] == 'u')
            low = read_unit(p, end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        } else {
            c = 0xfffd; /* a lone surrogate has no UTF-8 form */
        }
    }
    *ret_n = put_utf8(c, out);
    return p;
}

/* Whether the string, unescaped, is `text`; not whole: or begins with it. */
static bool matches(struct span in, struct span text, bool whole)
{
    if (in.n == 0 || (!whole && text.n == 0))
        return text.n == 0; /* an empty string may have no bytes to point to */
    const char *p = in.p;
    const char *end = in.p + in.n;
    size_t at = 0;

    while (p < end && (whole || at < text.n)) {
        char out[4] = {*p};
        size_t n = 1;
        if (*p == '\\')
            p = resolve_escape(p, end, out, &n);
        else
            p++;
        if (text.n - at < n || memcmp(text.p + at, out, n) != 0)
            return false;
        at += n;
    }
    return at == text.n;
}

bool json_scan_equals(struct span in, struct span text)
{
    return matches(in, text, true);
}

bool json_scan_starts(struct span in, struct span text)
{
    return matches(in, text, false);
}

size_t json_scan_unescape(struct span in, char *out)
{
    if (in.n == 0)
        return 0;
    const char *p = in.p;
    const char *end = in.p + in.n;
    size_t used = 0;

    while (p < end) {
        const char *escape = memchr(p, '\\', (size_t)(end - p));
        const size_t plain = (size_t)((escape != NULL ? escape : end) - p);
        memcpy(out + used, p, plain);
        used += plain;
        p += plain;
        if (p < end) {
            size_t n;
            p = resolve_escape(p, end, out + used, &n);
            used += n;
        }
    }
    return used;
}

/* Reads one character, its escape resolved; returns the cursor behind it. */
static const char *next_character(const char *p, const char *end, char out[4], size_t *ret_n)
{
    const unsigned char lead = (unsigned char)*p;
    const size_t n = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if (lead == '\\')
        return resolve_escape(p, end, out, ret_n);
    CHECK((size_t)(end - p) >= n);
    memcpy(out, p, n);
    *ret_n = n;
    return p + n;
}

/*
 * Characters beyond ASCII that some parsers take for ASCII letters in another case: by Unicode's
 * folding (CaseFolding C and F), or, for both forms of the Turkish i, by comparing upper-case
 * letters.
 */
static const struct {
    const char *from;
    const char *to;
} folds[] = {
    {"\xc5\xbf", "s"},      /* U+017F, long s */
    {"\xc4\xb0", "i"},      /* U+0130, capital i with a dot */
    {"\xc4\xb1", "i"},      /* U+0131, small i without one */
    {"\xe2\x84\xaa", "k"},  /* U+212A, kelvin */
    {"\xef\xac\x85", "st"}, /* U+FB05, ligature of long s and t */
    {"\xef\xac\x86", "st"}, /* U+FB06, of s and t */
};

/* What a character is compared as: 1 to 4 bytes, which replace it. */
static struct span fold(const char *character, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(folds); i++) {
        if (strlen(folds[i].from) == n && memcmp(folds[i].from, character, n) == 0)
            return (struct span){folds[i].to, strlen(folds[i].to)};
    }
    return (struct span){character, n};
}

size_t json_scan_fold(struct span in, char *out, size_t size)
{
    const char *p = in.p;
    const char *end = in.n == 0 ? p : p + in.n;
    size_t used = 0;

    while (p < end && used < size) {
        char character[4];
        size_t n;
        p = next_character(p, end, character, &n);
        if (n == 1) {
            const char c = character[0];
            out[used++] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
            continue;
        }
        const struct span folded = fold(character, n);
        const size_t fits = MIN(folded.n, size - used);
        memcpy(out + used, folded.p, fits);
        used += fits;
    }
    return used;
}
