/* JSON for handlers: the public face of proto's scanner, and the quoting of strings. */

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "proto/json_scan.h"
#include "proto/jsonrpc.h"
#include "workerd/call.h"
#include "workerd/json_quote.h"

enum {
    NUMBER_MAX = 1100, /* bytes: what a double can need, written out, and more */
};

static struct span to_span(struct workerd_text text)
{
    return (struct span){text.p, text.n};
}

struct workerd_text workerd_json_member(struct workerd_text object, const char *key)
{
    if (object.n == 0 || object.p[0] != '{')
        return (struct workerd_text){NULL, 0};
    return call_text(jsonrpc_member(to_span(object), (struct span){key, strlen(key)}));
}

bool workerd_json_next(struct workerd_text array, size_t *at, struct workerd_text *ret_value)
{
    if (array.n == 0 || array.p[0] != '[' || *at >= array.n)
        return false;
    const char *end = array.p + array.n;
    const char *p = json_scan_white(array.p + (*at == 0 ? 1 : *at), end);
    if (*at != 0 && p < end && *p == ',')
        p = json_scan_white(p + 1, end);
    if (p == end || *p == ']')
        return false;
    const char *after = json_scan_value(p, end, 1);
    if (after == NULL)
        return false;
    *ret_value = (struct workerd_text){p, (size_t)(after - p)};
    *at = (size_t)(after - array.p);
    return true;
}

static bool is_number(struct workerd_text value)
{
    return value.n > 0 && (value.p[0] == '-' || (value.p[0] >= '0' && value.p[0] <= '9'));
}

int workerd_json_integer(struct workerd_text value, int64_t *ret_integer)
{
    if (!is_number(value))
        return -EINVAL;
    bool negative = value.p[0] == '-';
    /* Downwards, since there is one more negative number than positive ones. */
    int64_t integer = 0;
    bool fits = true;
    for (size_t i = negative; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return -EINVAL;
        fits = fits && !__builtin_mul_overflow(integer, 10, &integer) &&
               !__builtin_sub_overflow(integer, value.p[i] - '0', &integer);
    }
    if (!fits || (!negative && integer == INT64_MIN))
        return -ERANGE;
    *ret_integer = negative ? integer : -integer;
    return 0;
}

int workerd_json_double(struct workerd_text value, double *ret_number)
{
    char text[NUMBER_MAX];
    if (!is_number(value))
        return -EINVAL;
    if (value.n >= sizeof(text))
        return -ERANGE;
    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    char *end;
    double number = strtod(text, &end);
    if (*end != '\0')
        return -EINVAL;
    if (!isfinite(number))
        return -ERANGE;
    *ret_number = number;
    return 0;
}

int workerd_json_string(struct workerd_text value, char *out, size_t size)
{
    if (value.n < 2 || value.p[0] != '"')
        return -EINVAL;
    struct span in = {value.p + 1, value.n - 2};
    if (in.n < size) {
        size_t n = json_scan_unescape(in, out);
        out[n] = '\0';
        return (int)n;
    }
    if (memchr(in.p, '\\', in.n) == NULL || in.n / JSON_QUOTE_FACTOR >= size)
        return -ENOSPC;
    /* It may still fit once its escapes are resolved. Not mem_get(): this may be any thread. */
    char *temporary = malloc(in.n);
    if (temporary == NULL)
        return -ENOMEM;
    size_t n = json_scan_unescape(in, temporary);
    if (n < size) {
        memcpy(out, temporary, n);
        out[n] = '\0';
    }
    free(temporary);
    return n < size ? (int)n : -ENOSPC;
}

/* Bytes of the UTF-8 character that begins at `p`, or 0 where none does (RFC 3629 section 4). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    size_t n;
    unsigned low = 0x80;
    unsigned high = 0xbf;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;
        low = p[0] == 0xe0 ? 0xa0 : low;
        high = p[0] == 0xed ? 0x9f : high;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;
        low = p[0] == 0xf0 ? 0x90 : low;
        high = p[0] == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (n > left || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

bool json_is_utf8(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + n;
    while (p < end) {
        size_t length = *p < 0x80 ? 1 : utf8_length(p, (size_t)(end - p));
        if (length == 0)
            return false;
        p += length;
    }
    return true;
}

size_t json_quote_write(const char *text, size_t n, char *out)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *p = (const unsigned char *)text;
    const unsigned char *end = p + n;
    char *to = out;
    *to++ = '"';
    while (p < end) {
        unsigned char c = *p;
        if (c == '"' || c == '\\') {
            *to++ = '\\';
            *to++ = (char)c;
            p++;
        } else if (c < 0x20) {
            memcpy(to, "\\u00", 4);
            to[4] = hex[c >> 4];
            to[5] = hex[c & 15];
            to += 6;
            p++;
        } else if (c < 0x80) {
            *to++ = (char)c;
            p++;
        } else {
            size_t length = utf8_length(p, (size_t)(end - p));
            if (length == 0) {
                memcpy(to, "\xef\xbf\xbd", 3);
                to += 3;
                p++;
            } else {
                memcpy(to, p, length);
                to += length;
                p += length;
            }
        }
    }
    *to++ = '"';
    return (size_t)(to - out);
}

int json_quote(struct buf *out, const char *text, size_t n)
{
    char *room = buf_room(out, n * JSON_QUOTE_FACTOR + 2);
    if (room == NULL)
        return -ENOMEM;
    buf_added(out, json_quote_write(text, n, room));
    return 0;
}

int64_t workerd_json_quote(const char *text, size_t n, char *out, size_t size)
{
    if (size / JSON_QUOTE_FACTOR >= n && size - n * JSON_QUOTE_FACTOR >= 2)
        return (int64_t)json_quote_write(text, n, out);
    char *temporary = malloc(n * JSON_QUOTE_FACTOR + 2);
    if (temporary == NULL)
        return -ENOMEM;
    size_t length = json_quote_write(text, n, temporary);
    if (length <= size)
        memcpy(out, temporary, length);
    free(temporary);
    return length <= size ? (int64_t)length : -ENOSPC;
}
