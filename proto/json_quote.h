#pragma once

/* Writes JSON strings. */

#include "common/buf.h"

enum {
    JSON_QUOTE_FACTOR = 6, /* bytes that one byte may become: \u00xx */
};

/*
 * Writes text as a JSON string with its quotes to `out`, which has room for n * JSON_QUOTE_FACTOR +
 * 2 bytes. What is not UTF-8 (RFC 3629) becomes U+FFFD. Returns the bytes written.
 */
size_t json_quote_write(const char *text, size_t n, char *out);

/* Appends text as json_quote_write() writes it. Returns 0 or -ENOMEM. */
int json_quote(struct buf *out, const char *text, size_t n);
