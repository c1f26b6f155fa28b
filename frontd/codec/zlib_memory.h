#pragma once

/* What the users of zlib share: its memory is counted, and what is inflated is bounded. */

#include <errno.h>
#include <zlib.h>

#include "common/buf.h"
#include "frontd/codec/coding_memory.h"

static inline void *zlib_take_memory(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    return coding_take((size_t)count * size);
}

static inline void zlib_give_memory(void *opaque, void *memory)
{
    (void)opaque;
    coding_give(memory);
}

/* A stream that is not initialised yet, or NULL. Given back with coding_give(). */
static inline z_stream *zlib_stream_new(void)
{
    z_stream *stream = coding_take(sizeof(*stream));
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

/*
 * Inflates some of what stream->next_in has, behind what is in `out`, which grows by at most as
 * much as it has. Returns 0 with what zlib has returned, -EMSGSIZE where `out` has more than
 * `limit` bytes then, or -ENOMEM.
 */
static inline int zlib_inflate_some(
    z_stream *stream, int flush, size_t limit, struct buf *out, int *ret_result)
{
    enum { STEP = 4096 /* bytes by which it grows, at least */ };
    const size_t have = buf_len(out);
    /* One byte more than there may be, so that it is seen where more would come. */
    const size_t want = MIN(MAX((size_t)STEP, have), limit + 1 - have);
    char *room = buf_room(out, want);
    if (room == NULL)
        return -ENOMEM;
    stream->next_out = (unsigned char *)room;
    stream->avail_out = (unsigned)want;
    const int r = inflate(stream, flush);
    buf_added(out, want - stream->avail_out);
    if (buf_len(out) > limit)
        return -EMSGSIZE;
    *ret_result = r;
    return r == Z_MEM_ERROR ? -ENOMEM : 0;
}
