#pragma once

/* Reads the examples of proto/vectors/, as its README.md says; for tests only. */

#include <criterion/criterion.h>
#include <string.h>

#include "common/base.h"

enum { VECTOR_KEYS_MAX = 32 };

struct vector {
    struct {
        char *key;
        char *value; /* what is continued is joined */
    } pairs[VECTOR_KEYS_MAX];
    size_t npairs;
};

/* A file's text, NUL-terminated; the caller frees it. The folder is in the environment: VECTORS. */
char *vectors_load(const char *file);

/* Takes the next record from *text, which is cut into pieces; false at the end. */
bool vectors_next(char **text, struct vector *ret_vector);

/* A value, or NULL where there is no such key. `nth`: of those with the same key. */
const char *vectors_nth(const struct vector *vector, const char *key, size_t nth);

static inline const char *vectors_get(const struct vector *vector, const char *key)
{
    const char *value = vectors_nth(vector, key, 0);
    cr_assert_not_null(value, "no %s", key);
    return value;
}

static inline uint64_t vectors_number(const struct vector *vector, const char *key)
{
    return strtoull(vectors_get(vector, key), NULL, 0);
}

/*
 * Bytes from hex digits; the caller frees them. Allocated exactly, so that ASan sees a byte more.
 */
char *vectors_bytes(const char *hex, size_t *ret_n);
