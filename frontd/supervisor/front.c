#include "frontd/supervisor/front.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frontd/system/discard.h"

void front_init(struct front *front, const struct generation_ops *ops)
{
    front->ops = ops;
    holds_init(&front->holds);
    reload_report_init(&front->report);
    front->run_dir_fd = front->lock_fd = front->control_fd = front->alive_fd = front->tickets_fd =
        -1;
    for (size_t i = 0; i < SHARE_SEATS; i++)
        front->wake_fds[i] = -1;
    front->trace_fds[FRONT_TRACE_SHARDS] = front->trace_fds[FRONT_TRACE_ADMIN] = -1;
}

/* With what processes may have put into them, which is not looked at here. */
static void close_trace(struct front *front)
{
    if (front->trace_fds[FRONT_TRACE_SHARDS] >= 0)
        discard(front->trace_fds, FRONT_TRACE_FDS, 0);
    front->trace_fds[FRONT_TRACE_SHARDS] = front->trace_fds[FRONT_TRACE_ADMIN] = -1;
}

/* Whether a process that has one of the sockets has shut it down, which ends it for all of them. */
static bool trace_is_shut(const struct front *front)
{
    struct pollfd waits[FRONT_TRACE_FDS];
    for (size_t i = 0; i < FRONT_TRACE_FDS; i++)
        waits[i] = (struct pollfd){.fd = front->trace_fds[i], .events = POLLRDHUP};
    return poll(waits, FRONT_TRACE_FDS, 0) > 0;
}

int front_make_trace(struct front *front)
{
    if (front->trace_fds[FRONT_TRACE_SHARDS] >= 0 && !trace_is_shut(front))
        return 0;
    close_trace(front);
    int r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, front->trace_fds);
    return r < 0 ? -errno : 0;
}

int front_make_wake(struct front *front, uint32_t seat)
{
    int *wake_fd = &front->wake_fds[seat];
    if (*wake_fd < 0)
        *wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *wake_fd < 0 ? -errno : 0;
}

void front_close_wakes(struct front *front)
{
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        if (front->wake_fds[i] >= 0)
            close(front->wake_fds[i]);
        front->wake_fds[i] = -1;
    }
    close_trace(front);
}

uint64_t front_time_of_day(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / (1000 * 1000);
}
