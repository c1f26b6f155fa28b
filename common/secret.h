#pragma once

/*
 * Memory for keys: left out of core dumps and of forked processes, and overwritten before it is
 * given back. It is taken from the kernel by whole pages, so it is for few and large things; many
 * small ones are objects of a slab (slab_init_secret()).
 */

#include "common/base.h"

/*
 * Takes `size` bytes, zeroed. Returns NULL where there is no memory, or where it cannot be left
 * out of core dumps. To be given back with secret_free().
 */
void *secret_alloc(size_t size);

/* The same at a multiple of `align`, a power of two. */
void *secret_aligned(size_t align, size_t size);

/* Overwrites the memory and gives it back. size: as at secret_alloc(). Accepts NULL. */
void *secret_free(void *memory, size_t size);

/* Overwrites `n` bytes with zeroes, which the compiler does not leave out. */
void secret_wipe(void *memory, size_t n);
