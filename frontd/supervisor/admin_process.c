/*
 * admin_process_start() makes the control socket, executes this same program, and sends it SETUP
 * (ipc/admin_setup.h). It says at once that it lives, and twice a second from then on;
 * admin_process_check() kills one that does not. When it ends, waitpid() tells lifecycle.c, and
 * admins.c starts another one. It is told to finish by the end of the control socket.
 */

#include "frontd/supervisor/admin_process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/admin_setup.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/system/discard.h"
#include "frontd/system/loop.h"
#include "frontd/system/spawn.h"

enum {
    GRACE_MS = 2000, /* what it gets to end, beyond the time that it knows of */
    CLOSE_WAIT_MS = 100,
};

static void on_admin_control(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct admin_process *process = poll->data;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    int r = admin_setup_hear(process->sock, fds, &nfds);
    discard(fds, nfds, 0);
    if (r == -EAGAIN)
        return;
    if (r == 0) {
        process->beats++;
        return;
    }
    if (r != -EPIPE && r != -ECONNRESET)
        log_error("the admin process (pid %ld) says what it may not (%s), killing it",
            (long)process->pid, strerror(-r));
    admin_process_kill(process);
    uv_poll_stop(&process->control);
}

static void on_control_closed(uv_handle_t *handle)
{
    struct admin_process *process = handle->data;
    process->control_open = false;
    if (process->forgotten)
        mem_free(process);
}

static void close_control(struct admin_process *process)
{
    if (process->control_open && !uv_is_closing((uv_handle_t *)&process->control))
        uv_close((uv_handle_t *)&process->control, on_control_closed);
    if (process->sock >= 0)
        discard(&process->sock, 1, CLOSE_WAIT_MS); /* with what has come and was not looked at */
    process->sock = -1;
}

/* All sockets of the addresses of `admin`. */
static uint32_t listening(struct front *front, const struct conf_admin *admin, int *ret_sockets)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < admin->naddresses; i++) {
        const struct endpoint *endpoint = endpoints_find(&front->endpoints, &admin->addresses[i]);
        for (uint32_t k = 0; endpoint != NULL && k < endpoint->count; k++) {
            if (n < ADMIN_SOCKETS_MAX)
                ret_sockets[n++] = endpoint->fds[k];
        }
    }
    return n;
}

static int set_up(struct admin_process *process, int token_fd, int ask_fd)
{
    struct front *front = process->front;
    const struct generation *generation = front_serving(front);
    struct admin_setup setup = {
        .generation = generation->number, .table = *share_table(generation->share)};
    int sockets[ADMIN_SOCKETS_MAX];
    memcpy(setup.instance, front->instance, sizeof(setup.instance));
    snprintf(setup.conf_name, sizeof(setup.conf_name), "%s", front->conf_name);
    int share_fd = share_open_readonly(generation->share_fd);
    if (share_fd < 0)
        return share_fd;
    bool traces = generation->conf->tracing != NULL && front_make_trace(front) == 0;
    const int fds[ADMIN_FDS] = {
        [ADMIN_CONF] = generation->conf_fd,
        [ADMIN_SHARE] = share_fd,
        [ADMIN_ASK] = ask_fd,
        [ADMIN_TOKEN] = token_fd,
        [ADMIN_TRACE] = traces ? front->trace_fds[FRONT_TRACE_ADMIN] : -1,
    };
    uint32_t n = listening(front, &generation->conf->admin, sockets);
    int r = admin_setup_send(process->sock, &setup, fds, sockets, n);
    close(share_fd);
    return r;
}

/* fd: our end of the control socket, consumed. */
static int watch(struct admin_process *process, int fd)
{
    process->sock = fd;
    int r = loop_poll_init(&process->front->loop, &process->control, fd);
    if (r < 0)
        return r;
    process->control.data = process;
    process->control_open = true;
    return uv_poll_start(&process->control, UV_READABLE, on_admin_control);
}

static int execute(struct admin_process *process, int control)
{
    char *words[] = {(char[]){"frontd"}, (char[]){"--admin"}};
    const struct spawn spawn = {
        .path = PATHS_SELF,
        .words = words,
        .n = ARRAY_LEN(words),
        .fds = {-1, -1, -1, control},
        .nfds = ADMIN_FD + 1,
        .without = sd_notify_variables,
    };
    return spawn_start(&spawn, &process->pid);
}

int admin_process_start(
    struct front *front, int token_fd, int ask_fd, struct admin_process **ret_process)
{
    int pair[2];
    struct admin_process *process = mem_zalloc(sizeof(*process));
    if (process == NULL)
        return -ENOMEM;
    *process = (struct admin_process){.front = front,
        .sock = -1,
        .pid = -1,
        .started = uv_now(&front->loop),
        .timeout = front_serving(front)->conf->shard_timeout};
    int r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ? -errno
                                                                                            : 0;
    if (r == 0) {
        r = watch(process, pair[0]);
        if (r == 0)
            r = set_up(process, token_fd, ask_fd); /* it lies there until the process reads it */
        if (r == 0)
            r = execute(process, pair[1]);
        close(pair[1]);
    }
    if (r < 0) {
        admin_process_forget(process);
        return r;
    }
    *ret_process = process;
    return 0;
}

int admin_process_found(struct front *front, pid_t pid, struct admin_process **ret_process)
{
    struct admin_process *process = mem_zalloc(sizeof(*process));
    if (process == NULL)
        return -ENOMEM;
    *process = (struct admin_process){
        .front = front, .sock = -1, .pid = pid, .started = uv_now(&front->loop)};
    admin_process_finish(process);
    *ret_process = process;
    return 0;
}

void admin_process_finish(struct admin_process *process)
{
    if (process->end_at != 0)
        return;
    process->end_at = uv_now(&process->front->loop) + ADMIN_FINISH_MS + GRACE_MS;
    close_control(process);
}

void admin_process_kill(struct admin_process *process)
{
    if (process->pid > 0)
        kill(process->pid, SIGKILL); /* a child of ours that has not been waited for */
}

void admin_process_check(struct admin_process *process, uint64_t elapsed)
{
    if (process->hung)
        return;
    if (process->end_at != 0) {
        process->hung = uv_now(&process->front->loop) >= process->end_at;
        if (process->hung)
            log_warning("the admin process (pid %ld) does not end, killing it", (long)process->pid);
    } else {
        uint64_t still = heartbeat_look(
            &process->heartbeat, process->beats, elapsed, ADMIN_BEAT_MS);
        process->hung = still >= process->timeout;
        if (process->hung)
            log_error("the admin process (pid %ld) has hung: no sign of life for %llu ms, killing "
                      "it",
                (long)process->pid, (unsigned long long)still);
    }
    if (process->hung)
        admin_process_kill(process);
}

void admin_process_forget(struct admin_process *process)
{
    if (process == NULL)
        return;
    close_control(process);
    process->forgotten = true;
    if (!process->control_open)
        mem_free(process);
}
