#pragma once

/*
 * The one place that takes memory from the system, so that a test can make the n-th allocation
 * fail. Small blocks are kept on free lists: a request that repeats takes no allocation.
 */

#include "common/base.h"

/*
 * A block of at least `size` bytes; *ret_size: its real size (rounded up to its class). NULL when
 * there is no memory. Given back with mem_put() and the same *ret_size.
 */
void *mem_get(size_t size, size_t *ret_size);
void mem_put(void *block, size_t size);

/*
 * Makes a block of `size` bytes larger, at least `want` bytes, which may move it; its content
 * stays. Returns it with its size in *ret_size, or NULL: the block is as it was.
 */
void *mem_grow(void *block, size_t size, size_t want, size_t *ret_size);

/* A zeroed object, or NULL. Given back with mem_free(). */
void *mem_zalloc(size_t size);
void *mem_free(void *object); /* accepts NULL; returns NULL */

/*
 * Makes an array larger: `room` objects of `size` bytes, the first `count` as they were, the
 * others zeroed. Returns the new array, and `array` is given back; or NULL: the array is as it
 * was. Given back with mem_free().
 */
void *mem_widen(void *array, size_t count, size_t room, size_t size);

/* As strdup() and strndup(). Given back with mem_free(). */
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t n);

/*
 * A zeroed object of `size` bytes at a multiple of `align`, a power of two, or NULL. Given back
 * with mem_free().
 */
void *mem_aligned(size_t align, size_t size);

/*
 * Zeroed pages of their own, `size` bytes from a multiple of `align`, a power of two; or NULL.
 * Given back with mem_unmap() and the same size.
 */
void *mem_map(size_t align, size_t size);
void mem_unmap(void *memory, size_t size);

/*
 * For tests: the allocation `n` from now fails (0: the next one), once; negative: none does.
 * The environment variable FRONTD_FAIL_ALLOC sets it at start where a program calls mem_init().
 */
void mem_fail_after(long n);
void mem_init(void);

/* Bytes that are on loan from the functions above; for tests and limits. */
size_t mem_in_use(void);

/*
 * A library has taken about so many bytes for this process by itself, or has given them back: they
 * count as on loan.
 */
void mem_lent(size_t size);
void mem_returned(size_t size);

/*
 * mem_in_use(), and the blocks that are kept on free lists: a memory budget is compared with this.
 */
size_t mem_held(void);

/* Gives the free lists back to the allocator. */
void mem_trim(void);

/*
 * Sets the allocator up for a process that is to give memory back: there is one arena, and large
 * blocks are always mappings of their own (else glibc raises the threshold for them with the first
 * large block that is freed). Once, at start.
 */
void mem_tune(void);

/* mem_trim(), then the free memory of the allocator goes back to the system. May take some ms. */
void mem_give_back(void);
