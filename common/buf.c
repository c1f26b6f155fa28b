#include "common/buf.h"

#include <errno.h>
#include <stdarg.h>

#include "common/alloc.h"
#include "common/secret.h"

static const size_t BUF_SIZE_MAX = (size_t)1 << 31;

enum {
    SHRINK_MIN = 128 * 1024, /* bytes: copying a smaller block is not worth it */
    SHRINK_PART = 8,         /* a block is too large when no more than this part of it is used */
};

/* Moves the content to the front of a larger block. */
static char *move_to(struct buf *buf, size_t want, size_t *ret_size)
{
    char *memory = mem_get(want, ret_size);
    if (memory == NULL)
        return NULL;
    if (buf_len(buf) > 0)
        memcpy(memory, buf_data(buf), buf_len(buf));
    if (UNLIKELY(buf->secret) && buf->memory != NULL)
        secret_wipe(buf->memory, buf->size);
    mem_put(buf->memory, buf->size);
    return memory;
}

char *buf_room(struct buf *buf, size_t n)
{
    if (LIKELY(n <= buf->size - buf->end && buf->memory != NULL))
        return buf->memory + buf->end;
    size_t len = buf_len(buf);
    if (n > BUF_SIZE_MAX - len)
        return NULL;
    /* Moving to the front is enough where half of the memory or more is consumed. */
    if (buf->memory != NULL && len + n <= buf->size && buf->start >= buf->size / 2) {
        memmove(buf->memory, buf_data(buf), len);
    } else {
        size_t want = len + n;
        if (buf->size > 0 && want < (size_t)buf->size * 2)
            want = (size_t)buf->size * 2;
        if (want > BUF_SIZE_MAX)
            want = len + n;
        size_t size;
        char *memory = buf->start == 0 && buf->memory != NULL && LIKELY(!buf->secret)
                           ? mem_grow(buf->memory, buf->size, want, &size)
                           : move_to(buf, want, &size);
        if (memory == NULL)
            return NULL;
        buf->memory = memory;
        buf->size = (uint32_t)size;
    }
    buf->start = 0;
    buf->end = (uint32_t)len;
    return buf->memory + buf->end;
}

int buf_append(struct buf *buf, const void *bytes, size_t n)
{
    if (n == 0)
        return 0;
    char *room = buf_room(buf, n);
    if (room == NULL)
        return -ENOMEM;
    memcpy(room, bytes, n);
    buf->end += (uint32_t)n;
    return 0;
}

int buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    char *room = buf_room(buf, (size_t)n + 1);
    if (room == NULL)
        return -ENOMEM;
    va_start(args, format);
    vsnprintf(room, (size_t)n + 1, format, args);
    va_end(args);
    buf->end += (uint32_t)n;
    return 0;
}

/* The rest moves into a block of its size, so that a few bytes do not keep a large one. */
static void shrink(struct buf *buf)
{
    size_t size;
    size_t len = buf_len(buf);
    char *memory = mem_get(len, &size);
    if (memory == NULL)
        return;
    memcpy(memory, buf_data(buf), len);
    mem_put(buf->memory, buf->size);
    *buf = (struct buf){.memory = memory, .end = (uint32_t)len, .size = (uint32_t)size};
}

void buf_consume(struct buf *buf, size_t n)
{
    CHECK(n <= buf_len(buf));
    buf->start += (uint32_t)n;
    if (buf->start == buf->end)
        buf_deinit(buf);
    else if (UNLIKELY(buf->size >= SHRINK_MIN) && buf_len(buf) <= buf->size / SHRINK_PART)
        shrink(buf);
}

void buf_wipe(struct buf *buf)
{
    if (buf->memory != NULL)
        secret_wipe(buf->memory, buf->size);
    buf_deinit(buf);
}

void buf_deinit(struct buf *buf)
{
    mem_put(buf->memory, buf->size);
    *buf = (struct buf){0};
}
