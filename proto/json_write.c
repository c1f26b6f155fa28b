#include "proto/json_write.h"

#include <errno.h>
#include <inttypes.h>

#include "proto/json_quote.h"

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

static void note(struct json_writer *writer, int r)
{
    if (r != 0)
        writer->failed = true;
}

/* Writes what stands before a value. Returns whether the value may follow. */
static bool lead(struct json_writer *writer, const char *key)
{
    const size_t n = key == NULL ? 0 : strlen(key);
    char *start = writer->failed ? NULL : buf_room(&writer->out, n + sizeof(",\"\":"));
    if (start == NULL) {
        writer->failed = true;
        return false;
    }
    char *p = start;
    if (writer->comma)
        *p++ = ',';
    if (key != NULL) {
        *p++ = '"';
        memcpy(p, key, n);
        p += n;
        *p++ = '"';
        *p++ = ':';
    }
    buf_added(&writer->out, (size_t)(p - start));
    writer->comma = true;
    return true;
}

void json_begin(struct json_writer *writer, const char *key, char bracket)
{
    if (lead(writer, key))
        note(writer, buf_append(&writer->out, &bracket, 1));
    writer->comma = false;
}

void json_end(struct json_writer *writer, char bracket)
{
    if (!writer->failed)
        note(writer, buf_append(&writer->out, &bracket, 1));
    writer->comma = true;
}

void json_add_number(struct json_writer *writer, const char *key, uint64_t value)
{
    if (lead(writer, key))
        note(writer, buf_printf(&writer->out, "%" PRIu64, value));
}

void json_add_integer(struct json_writer *writer, const char *key, int64_t value)
{
    if (lead(writer, key))
        note(writer, buf_printf(&writer->out, "%" PRId64, value));
}

void json_add_seconds(struct json_writer *writer, const char *key, uint64_t ms)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%" PRIu64 ".%03u", ms / 1000, (unsigned)(ms % 1000));
    while (text[n - 1] == '0')
        n--;
    text[text[n - 1] == '.' ? n - 1 : n] = '\0';
    if (lead(writer, key))
        note(writer, json_put_raw(&writer->out, text));
}

void json_add_flag(struct json_writer *writer, const char *key, bool value)
{
    if (lead(writer, key))
        note(writer, json_put_raw(&writer->out, value ? "true" : "false"));
}

void json_add_raw(struct json_writer *writer, const char *key, struct span json)
{
    if (lead(writer, key))
        note(writer, buf_append(&writer->out, json.p, json.n));
}

void json_add_text(struct json_writer *writer, const char *key, const char *text)
{
    json_add_span(writer, key, (struct span){text, strlen(text)});
}

void json_add_span(struct json_writer *writer, const char *key, struct span text)
{
    if (lead(writer, key))
        note(writer, json_quote(&writer->out, text.p, text.n));
}

void json_add_bytes(struct json_writer *writer, const char *key, const void *bytes, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *p = bytes;
    if (!lead(writer, key))
        return;
    char *room = buf_room(&writer->out, 2 * n + 2);
    if (room == NULL) {
        writer->failed = true;
        return;
    }
    *room++ = '"';
    for (size_t i = 0; i < n; i++) {
        *room++ = hex[p[i] >> 4];
        *room++ = hex[p[i] & 15];
    }
    *room = '"';
    buf_added(&writer->out, 2 * n + 2);
}
