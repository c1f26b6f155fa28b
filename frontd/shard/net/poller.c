#include "frontd/shard/net/poller.h"

#include <errno.h>
#include <unistd.h>

#include "common/base.h"
#include "frontd/shard/net/profile.h"
#include "frontd/system/loop.h"

static void on_ready(uv_poll_t *handle, int status, int events)
{
    struct poller *poller = container_of(handle, struct poller, handle);
    struct epoll_event batch[POLLER_BATCH];
    (void)status;
    (void)events;
    profile_enter(poller->work == POLLER_ALL ? PROFILE_READING : PROFILE_WRITING);
    int most = poller->work == POLLER_ALL ? POLLER_BATCH : POLLER_FEW;
    int n = most;
    uint64_t work = 0;
    poller->busy = true;
    /*
     * All that are asked for are dealt with: one that is not would be last in the kernel's list
     * again, and might be so for good.
     */
    for (unsigned round = 0; n == most && round < POLLER_ROUNDS && work < poller->work; round++) {
        n = epoll_wait(poller->fd, batch, most, 0);
        CHECK(n >= 0 || errno == EINTR);
        for (int i = 0; i < n; i++)
            work += poller->ready(batch[i].data.ptr, batch[i].events);
    }
    poller->busy = false;
}

int poller_init(struct poller *poller, uv_loop_t *loop, poller_fn *ready, uint64_t work)
{
    poller->ready = ready;
    poller->work = work;
    poller->busy = false;
    poller->fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->fd < 0)
        return -errno;
    int r = loop_poll_init(loop, &poller->handle, poller->fd);
    if (r < 0)
        close(poller->fd);
    else
        CHECK(uv_poll_start(&poller->handle, UV_READABLE, on_ready) == 0);
    return r;
}

void poller_close(struct poller *poller)
{
    uv_close((uv_handle_t *)&poller->handle, NULL);
    close(poller->fd); /* libuv has taken it out of its own epoll already */
}

int poller_set(struct poller *poller, int fd, uint32_t before, uint32_t events, void *item)
{
    struct epoll_event event = {.events = events, .data.ptr = item};
    int op = before == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (before == events)
        return 0;
    int r = epoll_ctl(poller->fd, op, fd, &event);
    CHECK(r == 0 || before == 0);
    return r == 0 ? 0 : -errno;
}
