#pragma once

/* What the users of zlib share: its memory comes from common/alloc.h, so that it is counted. */

#include <zlib.h>

#include "common/alloc.h"

static inline void *zlib_take_memory(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    return mem_zalloc((size_t)count * size);
}

static inline void zlib_give_memory(void *opaque, void *memory)
{
    (void)opaque;
    mem_free(memory);
}

/* A stream that is not initialised yet, or NULL. Given back with mem_free(). */
static inline z_stream *zlib_stream_new(void)
{
    z_stream *stream = mem_zalloc(sizeof(*stream));
    if (stream != NULL) {
        stream->zalloc = zlib_take_memory;
        stream->zfree = zlib_give_memory;
    }
    return stream;
}

/* zlib's pointers are not const; what they point to is only read. */
static inline unsigned char *zlib_readable(const void *p)
{
    return (unsigned char *)(uintptr_t)p;
}
