#include "proto/json_quote.h"

#include <errno.h>
#include <string.h>

#include "common/utf8.h"

size_t json_quote_write(const char *text, size_t n, char *out)
{
    static const char hex[] = "0123456789abcdef";
    const char *p = text;
    const char *end = p + n;
    char *to = out;
    *to++ = '"';
    while (p < end) {
        const unsigned char c = (unsigned char)*p;
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
