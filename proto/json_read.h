#pragma once

/*
 * Values of JSON text that has been scanned (json_scan.h): what was not is a bug. Nothing is
 * allocated but what is asked for, and that it was not there is said: a library that makes a tree
 * may leave out what it had no memory for.
 */

#include <stdint.h>

#include "common/base.h"

static inline bool json_is_string(struct span value)
{
    return value.n >= 2 && value.p[0] == '"';
}

static inline bool json_is_array(struct span value)
{
    return value.n >= 2 && value.p[0] == '[';
}

bool json_is_number(struct span value);

/*
 * Goes through the elements of an array. *at is 0 before the first; the next call goes on from
 * there. Returns false after the last, and where it is no array.
 */
bool json_read_next(struct span array, size_t *at, struct span *ret_value);

/* Returns 0; -EINVAL where it is no number without fraction and exponent; -ERANGE where it does
 * not fit. */
int json_read_integer(struct span value, int64_t *ret_integer);

/*
 * A string's text, NUL-terminated, to be given back with mem_free(); what is behind a NUL that is
 * in it is of no use. Returns 0, -EINVAL where it is no string, or -ENOMEM.
 */
int json_read_string(struct span value, char **ret_text);

/* The same, and how many bytes the text has: a NUL in it is one of them. */
int json_read_text(struct span value, char **ret_text, size_t *ret_n);

/* A member of an object by its key: n == 0 where there is none, or it is no object. */
struct span json_read_member(struct span object, const char *key);

/* An integer from 0 to `max`, or the fallback where there is none. */
uint64_t json_read_number(struct span value, uint64_t max, uint64_t fallback);

static inline bool json_is_true(struct span value)
{
    return value.n > 0 && value.p[0] == 't';
}

/* How many elements an array has; 0 where it is none. */
size_t json_read_count(struct span array);

/* A string's text without escapes, as far as it fits, NUL-terminated; empty where it is no string,
 * has escapes or does not fit. For texts that this program wrote. Returns whether it is there. */
bool json_read_plain(struct span value, char *out, size_t size);

/* Bytes that json_add_bytes() has written, at most `size`. Returns how many; 0 where they are not
 * as it writes them, or too many. */
size_t json_read_bytes(struct span value, void *out, size_t size);
