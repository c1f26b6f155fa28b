#pragma once

/* A queue of bytes: appended at the end, consumed at the front. Its memory comes from mem_get(). */

#include <string.h>

#include "common/base.h"

/* Zeroed is empty. */
struct buf {
    char *memory;
    uint32_t start; /* of the bytes that are not consumed yet */
    uint32_t end;
    uint32_t size;
    bool secret; /* as it grows, what it leaves behind is overwritten: see buf_wipe() */
};

static inline size_t buf_len(const struct buf *buf)
{
    return buf->end - buf->start;
}

static inline char *buf_data(const struct buf *buf)
{
    return buf->start == 0 ? buf->memory : buf->memory + buf->start; /* NULL has no offset, not 0 */
}

/*
 * Makes room for `n` bytes after the end and returns where they go; buf_added() counts them in.
 * NULL when there is no memory (or past 2 GiB): the buffer is as it was.
 */
char *buf_room(struct buf *buf, size_t n);

static inline void buf_added(struct buf *buf, size_t n)
{
    CHECK(n <= buf->size - buf->end);
    buf->end += (uint32_t)n;
}

/* Appends a copy. Returns 0 or -ENOMEM with the buffer as it was. */
int buf_append(struct buf *buf, const void *bytes, size_t n);

/* Appends formatted text. Not for hot paths. Returns 0 or -ENOMEM. */
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Drops `n` bytes from the front. The memory is given back when nothing is left, and most of a
 * large block when little is left: the rest may have moved.
 */
void buf_consume(struct buf *buf, size_t n);

/* Drops what was appended after `len` bytes: takes back an append that failed half-way. */
static inline void buf_truncate(struct buf *buf, size_t len)
{
    CHECK(len <= buf_len(buf));
    buf->end = buf->start + (uint32_t)len;
}

/* Empties it and gives the memory back. */
void buf_deinit(struct buf *buf);

/*
 * The same, and overwrites the memory, for a buffer that has held keys. Such a buffer is made with
 * `secret`, is never consumed, and its memory is in core dumps.
 */
void buf_wipe(struct buf *buf);
