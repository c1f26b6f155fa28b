#pragma once

/*
 * libuv's loop where memory may be short. libuv keeps a table of what it watches, with a place for
 * each descriptor up to the highest; where that has to grow and there is no memory, maybe_resize()
 * (src/unix/core.c) aborts. Here the room is made first, and that there is none is an error of the
 * one thing that was to be watched.
 *
 * What remains: epoll_ctl() in uv__io_poll() (src/unix/linux-core.c, from 1.44 on epoll.c) aborts
 * where the kernel takes no more watches of this user (fs.epoll.max_user_watches) or has no memory.
 * Clients are not in libuv's epoll instance (shard/net/poller.c).
 */

#include <uv.h>

/* Before all else that has to do with libuv, once for a process. Without it growing may abort. */
void loop_prepare(void);

/* As uv_loop_init(): 0 or -errno. */
int loop_init(uv_loop_t *loop);

/* As uv_poll_init(): 0 or -errno. After it uv_poll_start() does not need memory. */
int loop_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);
