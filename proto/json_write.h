#pragma once

/* JSON text, written piece by piece. */

#include <stdint.h>

#include "common/buf.h"

/*
 * Appends a JSON string. The bytes are taken as Latin-1, as HTTP field values are: those from 0x80
 * up become the characters of that number. Returns 0 or -ENOMEM.
 */
int json_put_latin1(struct buf *out, struct span text);

/* Appends the text as it is. Returns 0 or -ENOMEM. */
int json_put_raw(struct buf *out, const char *text);

/*
 * Writer of objects and arrays. Once there is no memory, `failed` is set, and nothing more is
 * appended, so that one check at the end is enough. Zeroed is empty; `out` is the caller's.
 *
 * key: written as it is; in an array NULL.
 */
struct json_writer {
    struct buf out;
    bool failed;
    bool comma; /* a value has been written before the next */
};

/* Begins an object ('{') or an array ('['), and ends it ('}', ']'). */
void json_begin(struct json_writer *writer, const char *key, char bracket);
void json_end(struct json_writer *writer, char bracket);

void json_add_number(struct json_writer *writer, const char *key, uint64_t value);
void json_add_integer(struct json_writer *writer, const char *key, int64_t value);
/* Adds a time in seconds, which is given in ms: 1.25 for 1250. */
void json_add_seconds(struct json_writer *writer, const char *key, uint64_t ms);

void json_add_flag(struct json_writer *writer, const char *key, bool value);

/* Adds a value, or several with commas between them, that are JSON already. */
void json_add_raw(struct json_writer *writer, const char *key, struct span json);

/* Adds a text. Bytes that are not UTF-8 become U+FFFD; the rest is read back as it was. */
void json_add_text(struct json_writer *writer, const char *key, const char *text);
void json_add_span(struct json_writer *writer, const char *key, struct span text);

/* Adds bytes, as a text of two hexadecimal digits for each. */
void json_add_bytes(struct json_writer *writer, const char *key, const void *bytes, size_t n);
