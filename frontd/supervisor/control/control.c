#include "frontd/supervisor/control/control.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/control/control_conn.h"
#include "frontd/supervisor/control/control_socket.h"
#include "frontd/system/loop.h"

enum { AGAIN_MS = 1000 };

static size_t count(const struct list *conns)
{
    size_t n = 0;
    list_for_each (node, conns)
        n++;
    return n;
}

/* Whether the process at the other end may ask for anything: it is of this user, or of root. */
static bool may_ask(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void on_connection(uv_poll_t *poll, int status, int events);

static void accept_again(uv_timer_t *timer)
{
    struct control *control = timer->data;
    CHECK(uv_poll_start(&control->poll, UV_READABLE, on_connection) == 0);
}

/* Nothing is accepted for a while: the connection stays in the queue, and the loop would spin. */
static void pause_accepting(struct control *control, int r)
{
    log_warning("cannot accept a control connection: %s; trying again in %d ms", log_error_text(r),
        AGAIN_MS);
    uv_poll_stop(&control->poll);
    CHECK(uv_timer_start(&control->again, accept_again, AGAIN_MS, 0) == 0);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct control *control = poll->data;
    (void)status;
    (void)events;
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            pause_accepting(control, -errno);
        return;
    }
    bool may = may_ask(fd);
    bool full = count(&control->conns) >= CONTROL_CONNECTIONS_MAX;
    int r = control_conn_new(control->loop, &control->conns, &control->methods, fd, false);
    if (r < 0)
        log_warning("a control connection cannot be served: %s", log_error_text(r));
    if (r < 0 || (may && !full))
        return;
    struct control_conn *conn = container_of(control->conns.prev, struct control_conn, node);
    if (may)
        control_conn_refuse(conn, "full", "too many control connections are open");
    else
        control_conn_refuse(conn, "permission", "only root and the user of frontd may ask");
}

void control_init(struct control *control, uv_loop_t *loop, const struct control_method *methods,
    size_t n, void *data)
{
    *control = (struct control){
        .loop = loop, .methods = {methods, n, data}, .fd = -1, .run_dir_fd = -1};
    list_init(&control->conns);
    list_init(&control->given);
}

int control_open(struct control *control, int run_dir_fd, int fd)
{
    control->run_dir_fd = run_dir_fd;
    if (fd >= 0 && !control_socket_serves(run_dir_fd, fd)) {
        close(fd);
        fd = -1;
    }
    int r = control->fd = fd >= 0 ? fd : control_socket_listen(run_dir_fd);
    if (r >= 0)
        r = loop_poll_init(control->loop, &control->poll, control->fd);
    if (r == 0) {
        CHECK(uv_timer_init(control->loop, &control->again) == 0);
        control->poll.data = control->again.data = control;
        control->watching = true;
        r = uv_poll_start(&control->poll, UV_READABLE, on_connection);
    } else if (control->fd >= 0) {
        close(control->fd);
        control->fd = -1;
    }
    return r;
}

int control_serve(struct control *control, int fd, bool readonly)
{
    return control_conn_new(control->loop, &control->given, &control->methods, fd, readonly);
}

static void close_all(struct list *conns)
{
    while (!list_empty(conns))
        control_conn_close(list_first(conns, struct control_conn, node));
}

void control_close(struct control *control)
{
    if (control->loop == NULL)
        return;
    close_all(&control->conns);
    close_all(&control->given);
    if (control->watching) {
        uv_close((uv_handle_t *)&control->poll, NULL);
        uv_close((uv_handle_t *)&control->again, NULL);
    }
    control->watching = false;
    if (control->fd >= 0) {
        close(control->fd);
        control_socket_unlink(control->run_dir_fd);
    }
    control->fd = -1;
    control->loop = NULL;
}
