#pragma once

/* The elements of HTTP/1.1's grammar: classes of bytes, lists, parameters, names. */

#include <string.h>
#include <strings.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/base.h"
#include "common/token.h"
#include "frontd/codec/http_head.h"

enum {
    HTTP1_TOKEN = 1 << 0,  /* tchar: common/token.h */
    HTTP1_VALUE = 1 << 1,  /* field-vchar, SP and HTAB: RFC 9110 section 5.5 */
    HTTP1_TARGET = 1 << 2, /* VCHAR but '#': parse_target() says why */
    /* unreserved and sub-delims (RFC 3986 section 3.2.2) but the comma, by which a proxy would have
     * joined two Host fields */
    HTTP1_HOST = 1 << 3,
    HTTP1_DIGIT = 1 << 4,
    HTTP1_HEXDIG = 1 << 5,
};

/* The table is computed from the grammar when compiled. */
#define HTTP1_IN(c, from, to) ((c) >= (from) && (c) <= (to))
#define HTTP1_IS_ALNUM(c)     (HTTP1_IN(c, '0', '9') || HTTP1_IN(c, 'A', 'Z') || HTTP1_IN(c, 'a', 'z'))
#define HTTP1_IS_VALUE(c)     ((c) == '\t' || ((c) >= ' ' && (c) != 0x7f))
#define HTTP1_IS_TARGET(c)    (HTTP1_IN(c, '!', '~') && (c) != '#')
#define HTTP1_IS_HOST(c)                                                                           \
    (HTTP1_IS_ALNUM(c) || (c) == '!' || (c) == '$' || HTTP1_IN(c, '&', '+') ||                     \
        HTTP1_IN(c, '-', '.') || (c) == ';' || (c) == '=' || (c) == '_' || (c) == '~')
#define HTTP1_IS_HEXDIG(c) (HTTP1_IN(c, '0', '9') || HTTP1_IN(c, 'A', 'F') || HTTP1_IN(c, 'a', 'f'))

#define HTTP1_CLASS(c)                                                                             \
    ((TOKEN_CHAR(c) ? HTTP1_TOKEN : 0) | (HTTP1_IS_VALUE(c) ? HTTP1_VALUE : 0) |                   \
        (HTTP1_IS_TARGET(c) ? HTTP1_TARGET : 0) | (HTTP1_IS_HOST(c) ? HTTP1_HOST : 0) |            \
        (HTTP1_IN(c, '0', '9') ? HTTP1_DIGIT : 0) | (HTTP1_IS_HEXDIG(c) ? HTTP1_HEXDIG : 0))
#define HTTP1_4(c)  HTTP1_CLASS(c), HTTP1_CLASS((c) + 1), HTTP1_CLASS((c) + 2), HTTP1_CLASS((c) + 3)
#define HTTP1_16(c) HTTP1_4(c), HTTP1_4((c) + 4), HTTP1_4((c) + 8), HTTP1_4((c) + 12)
#define HTTP1_64(c) HTTP1_16(c), HTTP1_16((c) + 16), HTTP1_16((c) + 32), HTTP1_16((c) + 48)

static const uint8_t http1_class[256] = {
    HTTP1_64(0),
    HTTP1_64(64),
    HTTP1_64(128),
    HTTP1_64(192),
};

static inline bool http1_is(char c, int class)
{
    return (http1_class[(unsigned char)c] & class) != 0;
}

#ifdef __SSE2__
static inline __m128i load16(const char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
#endif

/* The first byte that is not HTTP1_TOKEN. */
static inline const char *skip_name(const char *p, const char *end)
{
#ifdef __SSE2__
    /* Most names have letters and '-' only: those are tested 16 at a time, other bytes by the
     * table. */
    while (end - p >= 16) {
        const __m128i bytes = load16(p);
        /* 'a'..'z' moved to the lowest signed bytes, so that one signed comparison does */
        const __m128i letter = _mm_add_epi8(
            _mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8((char)(0x80 - 'a')));
        const __m128i ok = _mm_or_si128(_mm_cmplt_epi8(letter, _mm_set1_epi8((char)(0x80 + 26))),
            _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
        const unsigned stop = (unsigned)_mm_movemask_epi8(ok) ^ 0xffff;
        p += stop == 0 ? 16 : __builtin_ctz(stop);
        if (stop != 0)
            break;
    }
#endif
    while (p < end && http1_is(*p, HTTP1_TOKEN))
        p++;
    return p;
}

/* The first byte that is not HTTP1_VALUE. */
static inline const char *skip_value(const char *p, const char *end)
{
#ifdef __SSE2__
    for (; end - p >= 16; p += 16) {
        const __m128i bytes = load16(p);
        const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        const __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
        const __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        const __m128i bad = _mm_or_si128(_mm_andnot_si128(tab, low), del);
        const unsigned stop = (unsigned)_mm_movemask_epi8(bad);
        if (stop != 0)
            return p + __builtin_ctz(stop);
    }
#endif
    while (p < end && http1_is(*p, HTTP1_VALUE))
        p++;
    return p;
}

/* The first byte that is not HTTP1_TARGET. */
static inline const char *skip_target(const char *p, const char *end)
{
#ifdef __SSE2__
    for (; end - p >= 16; p += 16) {
        const __m128i bytes = load16(p);
        /* signed: bytes >= 0x80 are less than '!' too */
        const __m128i low = _mm_cmplt_epi8(bytes, _mm_set1_epi8('!'));
        const __m128i hash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('#'));
        const __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
        const unsigned stop = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_or_si128(low, hash), del));
        if (stop != 0)
            return p + __builtin_ctz(stop);
    }
#endif
    while (p < end && http1_is(*p, HTTP1_TARGET))
        p++;
    return p;
}

static inline const char *skip_class(const char *p, const char *end, int class)
{
    while (p < end && http1_is(*p, class))
        p++;
    return p;
}

static inline bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

static inline const char *skip_ows(const char *p, const char *end)
{
    while (p < end && is_ows(*p))
        p++;
    return p;
}

static inline struct span span_of(const char *from, const char *to)
{
    return (struct span){from, (size_t)(to - from)};
}

/*
 * Cuts the next element that is not empty off the list (RFC 9110 section 5.6.1.2); false: none
 * left.
 */
static inline bool next_element(struct span *list, struct span *ret_element)
{
    const char *p = list->p, *end = list->p + list->n;
    while (p < end && (*p == ',' || is_ows(*p)))
        p++;
    if (p == end)
        return false;
    const char *comma = memchr(p, ',', (size_t)(end - p));
    const char *last = comma == NULL ? end : comma;
    *list = span_of(last, end);
    while (is_ows(last[-1]))
        last--;
    *ret_element = span_of(p, last);
    return true;
}

/* The byte after a quoted-string (RFC 9110 section 5.6.4) that starts at p, or NULL. */
static inline const char *skip_quoted(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && ++p == end)
            return NULL;
    return p < end ? p + 1 : NULL;
}

/* The byte after *( OWS ";" OWS token BWS "=" BWS ( token / quoted-string ) ) OWS, or NULL. */
static inline const char *skip_parameters(const char *p, const char *end)
{
    for (;;) {
        p = skip_ows(p, end);
        if (p == end || *p != ';')
            return p;
        const char *name = skip_ows(p + 1, end);
        p = skip_class(name, end, HTTP1_TOKEN);
        if (p == name)
            return NULL;
        p = skip_ows(p, end);
        if (p == end || *p != '=')
            return NULL;
        const char *value = skip_ows(p + 1, end);
        if (value < end && *value == '"')
            p = skip_quoted(value, end);
        else
            p = skip_class(value, end, HTTP1_TOKEN);
        if (p == NULL || p == value)
            return NULL;
    }
}

static inline char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static inline bool same_name(struct span a, struct span b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0; /* the program sets no locale */
}

static inline uint64_t load8(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word));
    return word | 0x2020202020202020U;
}

static inline uint32_t load4(const char *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof(word));
    return word | 0x20202020U;
}

/*
 * Whether the n bytes at `token` are `literal`, which has letters and '-' only. `token` must be
 * HTTP1_TOKEN: among these, setting bit 5 makes nothing else into a letter or '-'. n is a constant
 * of at least 4, so this becomes two or three comparisons of words, the last two overlapping.
 */
__attribute__((always_inline)) static inline bool is_name(
    const char *token, const char *literal, size_t n)
{
    if (n < 8)
        return load4(token) == load4(literal) && load4(token + n - 4) == load4(literal + n - 4);
    for (size_t i = 0; i + 8 <= n; i += 8)
        if (load8(token + i) != load8(literal + i))
            return false;
    return load8(token + n - 8) == load8(literal + n - 8);
}

#define IS_NAME(token, literal) is_name((token).p, literal, sizeof(literal) - 1)

/* Methods are case-sensitive: RFC 9110 section 9.1. */
static inline int http_method_of(struct span text)
{
#define IS(literal) (memcmp(text.p, literal, sizeof(literal) - 1) == 0)
    switch (text.n) {
    case 3: return IS("GET") ? HTTP_GET : IS("PUT") ? HTTP_PUT : HTTP_OTHER;
    case 4: return IS("POST") ? HTTP_POST : IS("HEAD") ? HTTP_HEAD : HTTP_OTHER;
    case 5: return IS("PATCH") ? HTTP_PATCH : IS("TRACE") ? HTTP_TRACE : HTTP_OTHER;
    case 6: return IS("DELETE") ? HTTP_DELETE : HTTP_OTHER;
    case 7: return IS("OPTIONS") ? HTTP_OPTIONS : IS("CONNECT") ? HTTP_CONNECT : HTTP_OTHER;
    default: return HTTP_OTHER;
    }
#undef IS
}

/*
 * The number of bytes that a Content-Length field gives. RFC 9112 section 6.3 lets a list of equal
 * numbers pass; here it is refused: recipients that take the first and recipients that take the
 * last would disagree. False: it is no number, or over 64 bits.
 */
static inline bool http1_parse_length(struct span value, uint64_t *ret_length)
{
    uint64_t length = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (!http1_is(value.p[i], HTTP1_DIGIT))
            return false;
        const unsigned digit = (unsigned)(value.p[i] - '0');
        if (__builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, digit, &length))
            return false;
    }
    *ret_length = length;
    return value.n > 0;
}
