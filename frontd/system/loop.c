#include "frontd/system/loop.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base.h"

enum {
    INIT_FDS = 16, /* more than uv_loop_init() opens */
};

/* Memory for the table of the loop, which it takes when it grows the next time. */
static void *spare;
static size_t spare_size;

/* libuv's realloc(): all that it is used for here is that table. */
static void *grow(void *block, size_t size)
{
    if (spare == NULL || size > spare_size)
        return realloc(block, size);
    void *grown = spare;
    spare = NULL;
    if (block != NULL)
        memcpy(grown, block, MIN(malloc_usable_size(block), size));
    free(block);
    return grown;
}

static void drop_spare(void)
{
    free(spare);
    spare = NULL;
}

/* Sees to it that the table can grow as far as a descriptor. Returns 0 or -ENOMEM. */
static int make_room(int fd)
{
    size_t places = 64;
    while (places < (size_t)fd + 3) /* maybe_resize() wants two more, and a power of two */
        places *= 2;
    drop_spare();
    spare_size = places * sizeof(void *);
    spare = malloc(spare_size);
    return spare == NULL ? -ENOMEM : 0;
}

/* The highest of the next `n` descriptors, or the highest that can be had. */
static int highest_of(int n)
{
    int fds[INIT_FDS];
    int count = 0;
    int highest = 0;
    for (; count < MIN(n, (int)INIT_FDS) && (fds[count] = dup(STDERR_FILENO)) >= 0; count++)
        highest = MAX(highest, fds[count]);
    while (count > 0)
        close(fds[--count]);
    return highest;
}

void loop_prepare(void)
{
    CHECK(uv_replace_allocator(malloc, grow, calloc, free) == 0);
}

int loop_init(uv_loop_t *loop)
{
    int r = make_room(highest_of(INIT_FDS));
    if (r == 0)
        r = uv_loop_init(loop);
    drop_spare();
    return r;
}

static void on_nothing(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
}

int loop_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
    bool grows = fd >= 0 && (unsigned)fd >= loop->nwatchers;
    int r = grows ? make_room(fd) : 0;
    if (r == 0)
        r = uv_poll_init(loop, poll, fd);
    if (r == 0 && grows) { /* the table grows when a handle is started, so now */
        CHECK(uv_poll_start(poll, UV_READABLE, on_nothing) == 0);
        CHECK(uv_poll_stop(poll) == 0);
    }
    drop_spare();
    return r;
}
