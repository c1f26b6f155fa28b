#pragma once

/*
 * Which client connections are ready: all of a shard's are in one epoll instance, and libuv's loop
 * watches that as a single descriptor. A uv_poll_t for each would take 160 bytes, and six
 * epoll_ctl() for a connection that is handed over where two do.
 *
 * It is level-triggered, as libuv is: what is not dealt with comes again in the next turn. So a
 * turn may have a limit of work: items then take turns in the order that the kernel has them in.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <uv.h>

enum {
    POLLER_BATCH = 1024, /* items that are asked for at a time, as many as libuv asks for */
    POLLER_ROUNDS = 8,   /* times in one turn, as long as there are so many: others wait too */
    POLLER_FEW = 4,      /* items at a time where work is limited: what it may be exceeded by */
};

#define POLLER_ALL UINT64_MAX /* no limit of work */

/*
 * An item is ready. events: those of EPOLLIN, EPOLLOUT, EPOLLRDHUP that it waits for; EPOLLERR and
 * EPOLLHUP come unasked. From within, what any item waits for may change, but none may be freed.
 * Returns how many units of work it was (ctx.h).
 */
typedef uint64_t poller_fn(void *item, uint32_t events);

struct poller {
    uv_poll_t handle;
    int fd;
    poller_fn *ready;
    uint64_t work; /* in one turn */
    bool busy;     /* a batch is being handed out: no item may be freed */
};

/*
 * work: units, after which the others wait for the next turn, or POLLER_ALL. Returns 0 or -errno:
 * nothing is left then. The loop is borrowed until poller_close().
 */
int poller_init(struct poller *poller, uv_loop_t *loop, poller_fn *ready, uint64_t work);

/* Nothing is watched any more. The loop lets go of the handle in its next turn. */
void poller_close(struct poller *poller);

/*
 * What an item waits for: `events` from now on, `before` until now; 0 is nothing, and unlike one
 * that waits for nothing else, it does not hear of errors either.
 *
 * fd: the item's descriptor, borrowed; the same in all its calls. It is to wait for nothing before
 * it is closed, since the connection may live on in another process, and be heard of here.
 *
 * Returns 0, or -errno where `before` is 0: -EPERM (nothing can be waited for there), -ENOMEM,
 * -ENOSPC (the kernel's limits).
 */
int poller_set(struct poller *poller, int fd, uint32_t before, uint32_t events, void *item);
