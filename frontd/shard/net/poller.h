#pragma once

/*
 * Which client connections are ready: all of a shard's are in one epoll instance, and libuv's loop
 * watches that as a single descriptor. A uv_poll_t for each would take 160 bytes, and six
 * epoll_ctl() for a connection that is handed over where two do.
 *
 * It is level-triggered, as libuv is: an item that is not dealt with comes again in the next turn.
 * So a turn may have a limit of work: items then take turns in the order that the kernel has them
 * in.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <uv.h>

enum {
    POLLER_BATCH = 1024, /* items in one epoll_wait(), as many as libuv asks for */
    POLLER_ROUNDS = 8,   /* epoll_wait() calls in a turn at most, while each fills its batch */
    POLLER_FEW = 4,      /* items in one where work is limited: they are all dealt with */
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
    uint64_t work; /* units in one turn, or POLLER_ALL */
    bool busy;     /* a batch is being handed out: no item may be freed */
};

/*
 * Starts to watch an empty set. work: units, after which items that are ready wait for the next
 * turn, or POLLER_ALL. The loop is borrowed until poller_close(). Returns 0, or -errno with nothing
 * open.
 */
int poller_init(struct poller *poller, uv_loop_t *loop, poller_fn *ready, uint64_t work);

/* Stops watching. The loop lets go of the handle in its next turn. */
void poller_close(struct poller *poller);

/*
 * Changes what an item waits for from `before` to `events`. With 0 it is not watched at all, so
 * that errors are not reported either.
 *
 * fd: the item's descriptor, borrowed; the same in all its calls. Before it is closed the item has
 * to wait for 0, since the connection may live on in another process, and would be reported here.
 *
 * Returns 0, or -errno where `before` is 0: -EPERM (nothing can be waited for there), -ENOMEM,
 * -ENOSPC (the kernel's limits).
 */
int poller_set(struct poller *poller, int fd, uint32_t before, uint32_t events, void *item);
