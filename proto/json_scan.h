#pragma once

/*
 * RFC 8259 JSON as bytes: says where a value ends, or that it is none. No tree, no allocation, no
 * recursion. Stricter than it must be in nothing but the depth (section 9 allows a limit). Pure.
 *
 * A function that scans takes the cursor `p` and the end of the text and returns the cursor behind
 * what it has accepted, or NULL where that is not valid.
 */

#include "common/base.h"

enum {
    JSON_SCAN_DEPTH_MAX = 128, /* arrays and objects open at once; their kinds fit in two words */
};

/* RFC 8259 section 2: the four bytes that may stand around tokens. Never fails. */
static inline const char *json_scan_white(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/*
 * Scans one value, which begins at `p` itself. depth: arrays and objects that it already stands in.
 */
const char *json_scan_value(const char *p, const char *end, unsigned depth);

/* A member of an object. */
struct json_member {
    struct span key; /* inside the quotes, escapes not resolved */
    struct span value;
    bool odd; /* the key has escapes, or characters beyond ASCII */
};

/*
 * Scans the member that begins at `p` (at its key's quote), up to the end of its value. depth:
 * arrays and objects that its object stands in. *ret_member may have been written when NULL is
 * returned.
 */
const char *json_scan_member(
    const char *p, const char *end, unsigned depth, struct json_member *ret_member);

/*
 * Scans the object that begins at `p` (at its brace) and finds members: ret_values[i] is the text
 * of the last member whose key, unescaped, is keys[i]; n == 0 where there is none. Unlike other
 * outputs they may have been written when NULL is returned.
 */
const char *json_scan_object(const char *p, const char *end, unsigned depth,
    const struct span *keys, size_t count, struct span *ret_values);

/* The next four take the inside of a string that has been scanned; what was not is a bug. */

/* Whether a string, unescaped, is `text`. */
bool json_scan_equals(struct span in, struct span text);

/* Whether it begins with `text`, whole characters of it. */
bool json_scan_starts(struct span in, struct span text);

/* Resolves the escapes; at most in.n bytes are written to `out`. Returns how many. */
size_t json_scan_unescape(struct span in, char *out);

/*
 * Writes a string as those compare it who take no notice of upper and lower case: escapes resolved,
 * letters of ASCII in lower case, and as such what Unicode has of them in another case. All else
 * stays as it is. At most `size` bytes are written to `out`: the beginning, where it has more.
 * Returns how many.
 */
size_t json_scan_fold(struct span in, char *out, size_t size);
