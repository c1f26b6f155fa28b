#include "proto/json_write.h"

#include <errno.h>

int json_put_raw(struct buf *out, const char *text)
{
    return buf_append(out, text, strlen(text));
}

int json_put_latin1(struct buf *out, struct span text)
{
    static const char hex[] = "0123456789abcdef";
    char *start = buf_room(out, text.n * 6 + 2);
    if (start == NULL)
        return -ENOMEM;
    char *p = start;
    *p++ = '"';
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '"' || c == '\\') {
            *p++ = '\\';
            *p++ = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            memcpy(p, "\\u00", 4);
            p[4] = hex[c >> 4];
            p[5] = hex[c & 15];
            p += 6;
        } else if (c >= 0x80) {
            *p++ = (char)(0xc0 | c >> 6);
            *p++ = (char)(0x80 | (c & 0x3f));
        } else {
            *p++ = (char)c;
        }
    }
    *p++ = '"';
    buf_added(out, (size_t)(p - start));
    return 0;
}
