#pragma once

/*
 * The one place that takes memory from the system, so that a test can make the n-th allocation
 * fail. Small blocks are kept on free lists: a request that repeats takes no allocation.
 */

#include "common/base.h"

/*
 * A block of at least `size` bytes, which may be read back in *ret_size (rounded up to its class).
 * NULL when there is no memory. Given back with mem_put() and the same *ret_size.
 */
void *mem_get(size_t size, size_t *ret_size);
void mem_put(void *block, size_t size);

/* A zeroed object, or NULL. Given back with mem_free(). */
void *mem_zalloc(size_t size);
void *mem_free(void *object); /* accepts NULL; returns NULL */

/* As strdup() and strndup(). Given back with mem_free(). */
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t n);

/*
 * For tests: the allocation `n` from now fails (0: the next one), once; negative: none does.
 * The environment variable FRONTD_FAIL_ALLOC sets it at start where a program calls mem_init().
 */
void mem_fail_after(long n);
void mem_init(void);

/* Bytes that are on loan from mem_get() and mem_zalloc(); for tests and limits. */
size_t mem_in_use(void);

/* Gives the free lists back to the system. */
void mem_trim(void);
