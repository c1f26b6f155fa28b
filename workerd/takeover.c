/*
 * A successor's start.
 *
 * takeover_begin() takes the listening socket from the OFFER, which is there before this process
 * is -> modules are loaded -> workerd_run(): takeover_ready() says READY -> on_pair(): GO ->
 * take_over(): the worker accepts, and its socket's file is its own -> on_pair(): the old process
 * has closed its end. If SIGUSR2 came meanwhile, it is this one's turn to be replaced.
 *
 * It fails. The OFFER is missing or not understood: the start fails, the old process sees this one
 * end and serves on. The old process gives up: it kills this one. The old process dies before GO:
 * no other process can serve, so this one does. This one is stopped before GO: takeover_settle()
 * closes the pair, and the old process, which cannot say GO any more, serves on.
 */

#include "workerd/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fdpass.h"
#include "common/log.h"
#include "workerd/listener.h"
#include "workerd/replace.h"
#include "workerd/worker.h"

/* Whether descriptor 3 is a pair that our parent has made for us. */
static bool is_from_parent(void)
{
    struct ucred peer = {0};
    int type = 0;
    socklen_t size = sizeof(type);
    if (getsockopt(TAKEOVER_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET)
        return false;
    size = sizeof(peer);
    return getsockopt(TAKEOVER_FD, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           peer.pid == getppid() && peer.uid == geteuid();
}

int takeover_begin(struct workerd *worker)
{
    struct takeover *takeover = &worker->takeover;
    struct takeover_message offer;
    int fd;
    const char *value = getenv(TAKEOVER_VARIABLE);
    if (value == NULL)
        return 0;
    unsetenv(TAKEOVER_VARIABLE); /* not meant for processes that this one may start */
    if (strcmp(value, "3") != 0 || !is_from_parent()) {
        log_error(TAKEOVER_VARIABLE " is set, but descriptor 3 is not from a process that is to be "
                                    "replaced by this one");
        return -EPROTO;
    }
    if (fcntl(TAKEOVER_FD, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    if (handover_read(TAKEOVER_FD, &offer, &fd) != TAKEOVER_OFFER) {
        log_error("what the process that is to be replaced says is not understood");
        close(TAKEOVER_FD);
        return -EPROTO;
    }
    int r = socket_take(&worker->socket, fd);
    if (r < 0) {
        close(TAKEOVER_FD);
        return r;
    }
    worker->socket.dev = (dev_t)offer.dev;
    worker->socket.ino = (ino_t)offer.ino;
    snprintf(worker->socket.path, sizeof(worker->socket.path), "%s", offer.path);
    takeover->fd = TAKEOVER_FD;
    takeover->owns_path = offer.owns_path;
    worker->notify = offer.notify;
    log_info("replacing process %ld: its socket is here", (long)getppid());
    return 1;
}

/* Closes our end of the pair. */
static void hang_up(struct takeover *takeover)
{
    if (takeover->polled)
        uv_close((uv_handle_t *)&takeover->poll, NULL);
    takeover->polled = false;
    close(takeover->fd);
    takeover->fd = -1;
}

static void take_over(struct workerd *worker)
{
    worker->takeover.serves = true;
    worker->socket.owns_path = worker->takeover.owns_path;
    int r = listener_start(worker);
    if (r < 0) {
        log_error("cannot accept channels: %s", strerror(-r));
        workerd_stop(worker);
        return;
    }
    log_info("serving in its place");
}

/* The old process has closed its end, or has died. */
static void on_hang_up(struct workerd *worker)
{
    hang_up(&worker->takeover);
    if (!worker->takeover.serves) {
        log_warning("the process that was to be replaced has died");
        take_over(worker);
    }
    if (worker->replace.again)
        replace_asked(worker);
}

static void on_pair(uv_poll_t *poll, int status, int events)
{
    struct workerd *worker = container_of(poll, struct workerd, takeover.poll);
    struct takeover_message message;
    (void)events;
    int r = status < 0 ? 0 : handover_read(worker->takeover.fd, &message, NULL);
    if (r == -EAGAIN)
        return;
    if (r == 0) {
        on_hang_up(worker);
    } else if (r == TAKEOVER_GO && !worker->takeover.serves) {
        worker->replace.again = worker->replace.again || message.again;
        take_over(worker);
    } else {
        log_error("what the process that is to be replaced says is not understood");
        uv_poll_stop(poll);
        workerd_stop(worker);
    }
}

int takeover_ready(struct workerd *worker)
{
    struct takeover *takeover = &worker->takeover;
    const struct takeover_message ready = {.version = TAKEOVER_VERSION, .kind = TAKEOVER_READY};
    int r = uv_poll_init(&worker->loop, &takeover->poll, takeover->fd);
    if (r < 0)
        return r;
    takeover->polled = true;
    r = uv_poll_start(&takeover->poll, UV_READABLE, on_pair);
    if (r < 0)
        return r;
    /* Where the old process has died, on_pair() sees it. */
    r = fdpass_send(takeover->fd, &ready, sizeof(ready), NULL, 0);
    return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

void takeover_settle(struct workerd *worker)
{
    struct takeover_message message;
    if (!takeover_pending(&worker->takeover))
        return;
    if (!worker->takeover.serves &&
        handover_read(worker->takeover.fd, &message, NULL) == TAKEOVER_GO)
        worker->socket.owns_path = worker->takeover.owns_path;
    hang_up(&worker->takeover);
}
