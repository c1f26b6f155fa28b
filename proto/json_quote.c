#include "proto/json_quote.h"

#include <errno.h>

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
