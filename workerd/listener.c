#include "workerd/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "workerd/channel.h"
#include "workerd/worker.h"

enum {
    ACCEPT_PAUSE_MS = 100, /* after accept() failed for want of descriptors or memory */
};

static void on_listen(uv_poll_t *poll, int status, int events);

static void on_accept_again(uv_timer_t *timer)
{
    struct workerd *worker = container_of(timer, struct workerd, accept_timer);
    if (worker->listen_open)
        uv_poll_start(&worker->listen_poll, UV_READABLE, on_listen);
}

/* A socket that stays readable while accept() fails would have the loop spin. */
static void pause_accept(struct workerd *worker, int error)
{
    log_warning("cannot accept a channel: %s; trying again in %d ms", strerror(error),
        (int)ACCEPT_PAUSE_MS);
    uv_poll_stop(&worker->listen_poll);
    uv_timer_start(&worker->accept_timer, on_accept_again, ACCEPT_PAUSE_MS, 0);
}

static void on_listen(uv_poll_t *poll, int status, int events)
{
    struct workerd *worker = container_of(poll, struct workerd, listen_poll);
    (void)events;
    if (status < 0) {
        pause_accept(worker, -status);
        return;
    }
    for (;;) {
        int fd = accept4(worker->socket.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        int r = fd < 0 ? -errno : channel_open(worker, fd);
        if (r < 0) {
            pause_accept(worker, -r);
            return;
        }
    }
}

int listener_start(struct workerd *worker)
{
    return uv_poll_start(&worker->listen_poll, UV_READABLE, on_listen);
}

static void on_listen_closed(uv_handle_t *handle)
{
    struct workerd *worker = container_of(handle, struct workerd, listen_poll);
    worker->listen_open = false;
    socket_close(&worker->socket);
    worker_maybe_finish(worker);
}

void listener_close(struct workerd *worker)
{
    uv_handle_t *poll = (uv_handle_t *)&worker->listen_poll;
    uv_timer_stop(&worker->accept_timer);
    if (worker->listen_open && !uv_is_closing(poll))
        uv_close(poll, on_listen_closed);
}

int listener_open(struct workerd *worker)
{
    int r = uv_poll_init(&worker->loop, &worker->listen_poll, worker->socket.fd);
    if (r == 0)
        worker->listen_open = true;
    return r;
}
