#pragma once

/* Callbacks that other threads want called in the loop's thread. */

#include <uv.h>

#include "workerd/workerd.h"

struct posts {
    uv_async_t async;   /* wakes the loop */
    uv_mutex_t lock;    /* guards the next two */
    struct post *first; /* oldest first */
    struct post **last;
};

/*
 * wake: called in the loop's thread when there is something; it calls posts_run(). Returns 0 or
 * -errno. The handle is closed by its owner, and posts_deinit() called afterwards.
 */
int posts_init(struct posts *posts, uv_loop_t *loop, uv_async_cb wake);
void posts_deinit(struct posts *posts);

/* From any thread. Returns 0 or -ENOMEM. */
int posts_add(struct posts *posts, workerd_callback callback, void *data);

/* Calls what has been added until now, in that order. */
void posts_run(struct posts *posts);
