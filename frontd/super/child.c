/*
 * A shard's life. child_start() makes the control socket, forks and executes this same program, and
 * sends START (who it is, config, shared memory), LISTEN (its sockets) and RUN; the shard answers
 * READY. When the process ends, waitpid() tells super.c, which calls child_ended(): what the shard
 * held in the shared memory is taken back, and it is started again at once, or later when it keeps
 * dying. The listening sockets stay open here all the time.
 */

#include "frontd/super/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ctl.h"
#include "frontd/super/super.h"

enum {
    STEADY_MS = 5000,       /* who lived this long has not "kept dying" */
    BACKOFF_FIRST_MS = 100, /* after the second death in a row; the first restart is at once */
    BACKOFF_MAX_MS = 10000,
};

static void on_restart(uv_timer_t *timer)
{
    child_start(timer->data);
}

void child_init(struct child *child, struct super *super, uint32_t shard)
{
    *child = (struct child){.super = super, .shard = shard, .sock = -1, .pid = -1};
    CHECK(uv_timer_init(&super->loop, &child->restart) == 0);
    child->restart.data = child;
}

static void restart_later(struct child *child)
{
    uint64_t delay = 0;
    child->state = CHILD_DOWN;
    if (child->failures > 1)
        delay = MIN(
            (uint64_t)BACKOFF_FIRST_MS << MIN(child->failures - 2, 10U), (uint64_t)BACKOFF_MAX_MS);
    if (delay > 0)
        log_warning("shard %u keeps ending, starting it again in %llu ms", child->shard,
            (unsigned long long)delay);
    CHECK(uv_timer_start(&child->restart, on_restart, delay, 0) == 0);
}

/* In the forked child: becomes a shard. Only async-signal-safe calls. */
static void become_shard(int control, char *const argv[])
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (control == CTL_FD) {
        fcntl(control, F_SETFD, 0);
    } else if (dup2(control, CTL_FD) < 0) {
        _exit(126);
    }
    /* Everything else is close-on-exec already; this is for what we were started with. */
    close_range(CTL_FD + 1, ~0U, 0);
    execv("/proc/self/exe", argv);
    _exit(127);
}

static int send_start(struct child *child, int control)
{
    struct super *super = child->super;
    struct ctl_message message = {0};
    struct ctl_start *start = &message.u.start;
    start->incarnation = ++super->incarnations;
    start->generation = 1;
    start->seat = child->shard;
    start->shard = child->shard;
    start->shards = super->conf->shards;
    memcpy(start->instance, super->instance, sizeof(start->instance));
    snprintf(start->conf_name, sizeof(start->conf_name), "%s", super->conf_name);
    int fds[2 + CONF_SHARDS_MAX] = {super->conf_fd, super->share_fd};
    memcpy(fds + 2, super->wake_fds, super->conf->shards * sizeof(int));
    return ctl_send(control, CTL_START, &message, fds, 2 + super->conf->shards);
}

static int send_listeners(struct child *child, int control)
{
    struct super *super = child->super;
    struct ctl_message message = {0};
    struct ctl_listen *listen = &message.u.listen;
    int fds[FDPASS_FDS_MAX];
    for (size_t i = 0; i < super->sockets.count; i++) {
        const struct super_socket *socket = &super->sockets.sockets[i];
        if (!socket->shared && socket->shard != child->shard)
            continue;
        fds[listen->count] = socket->fd;
        listen->listeners[listen->count++] = socket->listener;
    }
    uint32_t count = listen->count;
    return ctl_send(control, CTL_LISTEN, &message, fds, count);
}

/* A socket pair between this shard and each of the others that run. */
static int send_peers(struct child *child)
{
    struct super *super = child->super;
    for (uint32_t i = 0; i < super->conf->shards; i++) {
        struct child *other = &super->children[i];
        int pair[2];
        if (other == child || other->pid < 0)
            continue;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
            return -errno;
        struct ctl_message to_child = {.u.peer.shard = other->shard};
        struct ctl_message to_other = {.u.peer.shard = child->shard};
        int r = ctl_send(child->sock, CTL_PEER, &to_child, &pair[0], 1);
        if (r == 0 && ctl_send(other->sock, CTL_PEER, &to_other, &pair[1], 1) < 0)
            log_error("shard %u cannot be told of shard %u", other->shard, child->shard);
        close(pair[0]);
        close(pair[1]);
        if (r < 0)
            return r;
    }
    return 0;
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct child *child = poll->data;
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    int r = ctl_receive(child->sock, &message, fds, &nfds);
    if (r == -EAGAIN)
        return;
    if (r == 0 && message.type == CTL_READY && child->state == CHILD_STARTING) {
        child->state = CHILD_READY;
        super_child_ready(child->super);
        return;
    }
    if (r != -EPIPE) {
        log_error("shard %u: bad control message (%s), killing it", child->shard,
            r == 0 ? "unexpected" : strerror(-r));
        if (r == 0)
            fdpass_close(fds, nfds);
        kill(child->pid, SIGKILL);
    }
    uv_poll_stop(&child->control); /* it is about to end; waitpid() will tell */
}

static int watch_control(struct child *child, int control)
{
    child->sock = control;
    int r = uv_poll_init(&child->super->loop, &child->control, control);
    if (r < 0)
        return r;
    child->control.data = child;
    child->control_open = true;
    return uv_poll_start(&child->control, UV_READABLE, on_control);
}

static void close_control(struct child *child)
{
    if (child->control_open)
        uv_close((uv_handle_t *)&child->control, NULL);
    if (child->sock >= 0)
        close(child->sock);
    child->control_open = false;
    child->sock = -1;
}

static int spawn(struct child *child)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    char number[16];
    snprintf(number, sizeof(number), "%u", child->shard);
    char *argv[] = {(char[]){"frontd"}, (char[]){"--shard"}, number, NULL};
    pid_t pid = fork();
    if (pid == 0)
        become_shard(pair[1], argv);
    int r = pid < 0 ? -errno : 0;
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return r;
    }
    child->pid = pid;
    child->state = CHILD_STARTING;
    child->started = uv_now(&child->super->loop);
    r = watch_control(child, pair[0]);
    struct ctl_message run = {0};
    if (r == 0)
        r = send_start(child, pair[0]);
    if (r == 0)
        r = send_listeners(child, pair[0]);
    if (r == 0)
        r = send_peers(child);
    if (r == 0)
        r = ctl_send(pair[0], CTL_RUN, &run, NULL, 0);
    if (r < 0) {
        log_error("shard %u: cannot set it up: %s, killing it", child->shard, strerror(-r));
        kill(pid, SIGKILL); /* its end is seen like any other */
    }
    return 0;
}

void child_start(struct child *child)
{
    /* Called from the restart timer at the earliest, so the close of the last process's control
     * handle, whose memory is used again, has run. */
    int r = spawn(child);
    if (r < 0) {
        log_error("shard %u: cannot start it: %s", child->shard, strerror(-r));
        child->failures = MAX(child->failures + 1, 2U);
        restart_later(child);
    }
}

static void log_end(const struct child *child, int status)
{
    bool stopping = child->super->stopping;
    if (WIFSIGNALED(status))
        log_write(stopping ? LOG_INFO : LOG_ERROR, "shard %u (pid %ld) was ended by signal %d%s",
            child->shard, (long)child->pid, WTERMSIG(status),
            stopping ? "" : ", its connections are lost; starting it again");
    else if (!stopping || WEXITSTATUS(status) != 0)
        log_write(stopping ? LOG_WARNING : LOG_ERROR, "shard %u (pid %ld) exited with status %d%s",
            child->shard, (long)child->pid, WEXITSTATUS(status),
            stopping ? "" : ", its connections are lost; starting it again");
}

void child_ended(struct child *child, int status)
{
    struct super *super = child->super;
    log_end(child, status);
    close_control(child);
    child->pid = -1;
    child->state = CHILD_DOWN;
    share_reclaim(super->share, child->shard);
    if (super->stopping) {
        super_child_gone(super);
        return;
    }
    child->failures = uv_now(&super->loop) - child->started >= STEADY_MS ? 1 : child->failures + 1;
    restart_later(child);
}

void child_drain(struct child *child)
{
    struct ctl_message message = {0};
    uv_timer_stop(&child->restart);
    if (child->pid < 0)
        return;
    int r = ctl_send(child->sock, CTL_DRAIN, &message, NULL, 0);
    if (r < 0) {
        log_error("shard %u: cannot ask it to stop: %s, killing it", child->shard, strerror(-r));
        kill(child->pid, SIGKILL);
    }
}

void child_close(struct child *child)
{
    close_control(child);
    uv_close((uv_handle_t *)&child->restart, NULL);
}
