#pragma once

/*
 * Values of JSON text that has been scanned (json_scan.h); other text is a bug of the caller. Only
 * results are allocated, and -ENOMEM is reported: a library that makes a tree may leave out what
 * it had no memory for.
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
 * The next element of an array. *at: 0 before the first; the next call goes on from there. Returns
 * false after the last one, and where it is no array.
 */
bool json_read_next(struct span array, size_t *at, struct span *ret_value);

/*
 * Reads an integer. Returns 0; -EINVAL where it is no number, or has a fraction or exponent;
 * -ERANGE where it does not fit.
 */
int json_read_integer(struct span value, int64_t *ret_integer);

/*
 * The text of a string, NUL-terminated, to be given back with mem_free(). It ends at the first NUL
 * in it. Returns 0, -EINVAL where it is no string, or -ENOMEM.
 */
int json_read_string(struct span value, char **ret_text);

/* As json_read_string(), with the number of bytes, in which a NUL is one like others. */
int json_read_text(struct span value, char **ret_text, size_t *ret_n);

/* The value of a member of an object; n == 0 where there is none, or it is no object. */
struct span json_read_member(struct span object, const char *key);

/* An integer from 0 to `max`; for anything else the fallback. */
uint64_t json_read_number(struct span value, uint64_t max, uint64_t fallback);

static inline bool json_is_true(struct span value)
{
    return value.n > 0 && value.p[0] == 't';
}

/* The number of elements of an array; 0 where it is none. */
size_t json_read_count(struct span array);

/*
 * The text of a string without escapes, NUL-terminated, for texts that this program wrote. Returns
 * false, with an empty text, where it is no string, has escapes or does not fit.
 */
bool json_read_plain(struct span value, char *out, size_t size);

/*
 * Reads what json_add_bytes() has written, at most `size` bytes. Returns how many; 0 where it is
 * something else, or too long.
 */
size_t json_read_bytes(struct span value, void *out, size_t size);
