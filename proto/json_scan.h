#pragma once

/*
 * RFC 8259 JSON as bytes: finds the end of a value, or that it is invalid. No tree, no allocation,
 * no recursion. Stricter than the RFC only in the depth, which section 9 allows to limit. Pure.
 *
 * Functions that scan take the cursor `p` and the end of the text, and return the cursor behind
 * what they have accepted, or NULL where that is invalid.
 */

#include "common/base.h"

enum {
    JSON_SCAN_DEPTH_MAX = 128, /* arrays and objects open at once; their kinds fit in two words */
};

/*
 * Skips the four bytes of white space that may stand around tokens (RFC 8259 section 2). Never
 * fails.
 */
static inline const char *json_scan_white(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Scans one value, which begins at `p`. depth: how many arrays and objects it is in. */
const char *json_scan_value(const char *p, const char *end, unsigned depth);

/* A member of an object. */
struct json_member {
    struct span key; /* inside the quotes, escapes not resolved */
    struct span value;
    bool odd; /* the key has escapes, or characters beyond ASCII */
};

/*
 * Scans the member that begins at `p` (at the quote of its key), up to the end of its value.
 * depth: how many arrays and objects its object is in. *ret_member may have been written when NULL
 * is returned.
 */
const char *json_scan_member(
    const char *p, const char *end, unsigned depth, struct json_member *ret_member);

/*
 * Scans the object that begins at `p` (at its brace) and finds members: ret_values[i] is the text
 * of the last member with the key keys[i], unescaped; n == 0 where there is none. They may have
 * been written when NULL is returned.
 */
const char *json_scan_object(const char *p, const char *end, unsigned depth,
    const struct span *keys, size_t count, struct span *ret_values);

/* The next four take the inside of a string that has been scanned; any other text is a bug. */

/* Whether a string, unescaped, is `text`. */
bool json_scan_equals(struct span in, struct span text);

/* Whether the string, unescaped, begins with `text`, which ends between characters. */
bool json_scan_starts(struct span in, struct span text);

/* Resolves the escapes; writes at most in.n bytes to `out`. Returns how many. */
size_t json_scan_unescape(struct span in, char *out);

/*
 * Writes a string in the form in which parsers that ignore upper and lower case compare it:
 * escapes resolved, ASCII letters in lower case, and so the characters that Unicode has for these
 * letters in another case. The rest stays as it is. At most `size` bytes are written to `out`: the
 * beginning, where there are more. Returns how many.
 */
size_t json_scan_fold(struct span in, char *out, size_t size);
