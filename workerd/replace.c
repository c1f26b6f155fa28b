/*
 * How SIGUSR2 replaces this process.
 *
 * on_signal() -> start(): the OFFER with the listening socket goes into a socket pair, and the
 * program on disk is started with the other end -> on_pair(): READY -> hand_over(): GO, the service
 * manager is told the new PID, and this worker stops as with SIGTERM, but for its socket's file,
 * which is the successor's now: GOAWAY, calls are finished, the process ends.
 *
 * It fails. The program cannot be executed: start() says so. The successor ends before READY:
 * on_exit_seen(). It closes its end, or says nothing in time: on_timer() kills it, on_exit_seen()
 * sees it end. In each case this process has never stopped accepting. When the handles are closed,
 * end_attempt() starts anew if SIGUSR2 came meanwhile. If it came and the attempt succeeds, GO
 * tells the successor, and it is its turn then.
 *
 * Relative paths, of the program and of modules, are to mean what they would mean if they were
 * written again: the successor starts in the folder that the working directory's name leads to now
 * (cwd.h).
 *
 * SIGTERM meanwhile: replace_cancel() ends the successor, which has accepted nothing, and this
 * process waits for that.
 */

#include "workerd/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/cwd.h"
#include "common/fdpass.h"
#include "common/log.h"
#include "common/notify.h"
#include "workerd/worker.h"

enum {
    END_MS = 1000, /* for a successor that is asked to end before it has begun */
};

extern char **environ;

static struct workerd *worker_of(struct replace *replace)
{
    return container_of(replace, struct workerd, replace);
}

static void start(struct workerd *worker);

/* The attempt has come to nothing, and its handles are closed. */
static void end_attempt(struct replace *replace)
{
    struct workerd *worker = worker_of(replace);
    replace->state = REPLACE_NONE;
    if (replace->again && worker->state == WORKER_RUNNING)
        start(worker);
    worker_maybe_finish(worker);
}

static void on_closed(uv_handle_t *handle)
{
    struct replace *replace = handle->data;
    if (--replace->open == 0 && replace->state == REPLACE_CLEARED)
        end_attempt(replace);
}

static void close_handle(struct replace *replace, uv_handle_t *handle)
{
    handle->data = replace;
    uv_close(handle, on_closed);
}

/* Closes our end of the pair. */
static void hang_up(struct replace *replace)
{
    if (replace->fd < 0)
        return;
    close_handle(replace, (uv_handle_t *)&replace->poll);
    close(replace->fd);
    replace->fd = -1;
}

/* The attempt has come to nothing, and its process has ended or was never started: cleans up. */
static void clear(struct replace *replace)
{
    struct workerd *worker = worker_of(replace);
    replace->state = REPLACE_CLEARED;
    uv_timer_stop(&replace->timer);
    hang_up(replace);
    if (replace->spawned)
        close_handle(replace, (uv_handle_t *)&replace->process);
    replace->spawned = false;
    if (worker->notify && worker->state == WORKER_RUNNING)
        notify_send("READY=1\nSTATUS=SIGUSR2 came to nothing, see the log\n");
    if (replace->open == 0)
        end_attempt(replace);
}

static void on_exit_seen(uv_process_t *process, int64_t status, int signal)
{
    struct replace *replace = process->data;
    char how[48];
    snprintf(how, sizeof(how), signal != 0 ? "was ended by signal %d" : "ended with status %d",
        signal != 0 ? signal : (int)status);
    if (replace->state == REPLACE_DONE) {
        log_error("the successor, process %d, %s", process->pid, how);
        return;
    }
    if (replace->state == REPLACE_STARTED)
        log_error(
            "the successor, process %d, %s before it was ready: serving on", process->pid, how);
    clear(replace);
}

static void on_timer(uv_timer_t *timer)
{
    struct replace *replace = container_of(timer, struct replace, timer);
    if (replace->state == REPLACE_STARTED)
        log_error("the successor, process %d, is not ready in time: it is killed, serving on",
            replace->process.pid);
    replace->state = REPLACE_GIVEN_UP;
    uv_process_kill(&replace->process, SIGKILL);
}

static void hand_over(struct workerd *worker)
{
    struct replace *replace = &worker->replace;
    const struct takeover_message go = {
        .version = TAKEOVER_VERSION, .kind = TAKEOVER_GO, .again = replace->again};
    if (fdpass_send(replace->fd, &go, sizeof(go), NULL, 0) < 0) {
        uv_poll_stop(&replace->poll); /* it is ending: on_exit_seen() */
        return;
    }
    uv_timer_stop(&replace->timer);
    replace->state = REPLACE_DONE;
    worker->socket.owns_path = false;
    log_info("process %d serves from now on", replace->process.pid);
    /*
     * Sent by this process: by default systemd listens to the main process only, which it still is.
     */
    if (worker->notify)
        notify_send("MAINPID=%d\nREADY=1\nSTATUS=\n", replace->process.pid);
    hang_up(replace);
    worker->ops->stop(worker, "replaced");
}

static void on_pair(uv_poll_t *poll, int status, int events)
{
    struct workerd *worker = container_of(poll, struct workerd, replace.poll);
    struct replace *replace = &worker->replace;
    struct takeover_message message;
    (void)events;
    int r = status < 0 ? 0 : handover_read(replace->fd, &message, NULL);
    if (r == -EAGAIN)
        return;
    if (r == TAKEOVER_READY && replace->state == REPLACE_STARTED) {
        hand_over(worker);
        return;
    }
    /* Either it has closed its end, and ends or is killed in time; or it is no successor at all. */
    uv_poll_stop(poll);
    if (r != 0 && replace->state == REPLACE_STARTED) {
        log_error("process %d does not speak as a successor does: it is killed, serving on",
            replace->process.pid);
        replace->state = REPLACE_GIVEN_UP;
        uv_process_kill(&replace->process, SIGKILL);
    }
}

/* The environment with our variable: to be given back with mem_free(); the texts are borrowed. */
static char **make_environment(void)
{
    static char variable[] = TAKEOVER_VARIABLE "=3";
    size_t n = 0;
    while (environ[n] != NULL)
        n++;
    char **made = mem_zalloc((n + 2) * sizeof(*made));
    if (made == NULL)
        return NULL;
    memcpy(made, environ, n * sizeof(*made));
    made[n] = variable;
    return made;
}

/* Whether descriptor `fd` is a standard one, and not one that was opened here under its number. */
static bool is_standard(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 && !(flags & FD_CLOEXEC);
}

static int spawn(struct replace *replace, int pair)
{
    uv_stdio_container_t stdio[TAKEOVER_FD + 1];
    for (int fd = 0; fd < TAKEOVER_FD; fd++) {
        stdio[fd].flags = is_standard(fd) ? UV_INHERIT_FD : UV_IGNORE;
        stdio[fd].data.fd = fd;
    }
    stdio[TAKEOVER_FD].flags = UV_INHERIT_FD;
    stdio[TAKEOVER_FD].data.fd = pair;
    char **environment = make_environment();
    if (environment == NULL)
        return -ENOMEM;
    const uv_process_options_t options = {
        .exit_cb = on_exit_seen,
        .cwd = access(replace->cwd, X_OK) == 0 ? replace->cwd : NULL,
        .file = replace->argv[0],
        .args = (char **)(uintptr_t)replace->argv,
        .env = environment,
        .stdio_count = ARRAY_LEN(stdio),
        .stdio = stdio,
    };
    replace->process.data = replace;
    int r = uv_spawn(&worker_of(replace)->loop, &replace->process, &options);
    mem_free(environment);
    replace->spawned = true; /* a handle, where it failed too */
    replace->open++;
    return r;
}

static int send_offer(const struct workerd *worker, int pair)
{
    const struct socket *sock = &worker->socket;
    struct takeover_message offer = {
        .version = TAKEOVER_VERSION,
        .kind = TAKEOVER_OFFER,
        .dev = sock->dev,
        .ino = sock->ino,
        .owns_path = sock->owns_path,
        .notify = worker->notify,
    };
    snprintf(offer.path, sizeof(offer.path), "%s", sock->path);
    return fdpass_send(pair, &offer, sizeof(offer), &sock->fd, 1);
}

/* Returns 0 or -errno; what it has opened until then, clear() closes. */
static int begin(struct workerd *worker)
{
    struct replace *replace = &worker->replace;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    int r = send_offer(worker, pair[0]);
    if (r == 0)
        r = uv_poll_init(&worker->loop, &replace->poll, pair[0]);
    if (r < 0) {
        fdpass_close(pair, 2);
        return r;
    }
    replace->fd = pair[0];
    replace->open++;
    r = uv_poll_start(&replace->poll, UV_READABLE, on_pair);
    if (r == 0)
        r = spawn(replace, pair[1]);
    close(pair[1]);
    return r;
}

static void start(struct workerd *worker)
{
    struct replace *replace = &worker->replace;
    replace->again = false;
    if (worker->notify) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        notify_send("RELOADING=1\nMONOTONIC_USEC=%lld\n",
            (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    }
    int r = begin(worker);
    if (r < 0) {
        log_error("cannot start %s as the successor: %s: serving on", replace->argv[0],
            log_error_text(r));
        clear(replace);
        return;
    }
    replace->state = REPLACE_STARTED;
    uv_timer_start(&replace->timer, on_timer, worker->times.replace, 0);
    log_info("SIGUSR2: process %d is started as the successor", replace->process.pid);
}

/*
 * Whether the program that started this process goes on with its successor. Otherwise it would see
 * this process end, and take that for the end of the worker.
 */
static bool is_followed(const struct workerd *worker)
{
    const char *systemd = getenv("SYSTEMD_EXEC_PID");
    if (worker->notify)
        return true;
    return !worker->passed && getpid() != 1 &&
           (systemd == NULL || strtol(systemd, NULL, 10) != (long)getpid());
}

void replace_asked(struct workerd *worker)
{
    struct replace *replace = &worker->replace;
    if (replace->argv == NULL) {
        log_info("SIGUSR2 is ignored: this program does not handle it");
    } else if (worker->state != WORKER_RUNNING) {
        log_info("SIGUSR2 is ignored: this process is stopping");
    } else if (replace->state != REPLACE_NONE || takeover_pending(&worker->takeover)) {
        replace->again = true;
        log_info("SIGUSR2 is remembered: a replacement is under way");
    } else if (!is_followed(worker)) {
        log_warning("SIGUSR2 is ignored: who started this process would take its successor's start "
                    "for its end. Have frontd replace it (SIGHUP to frontd), or use Type=notify");
    } else {
        start(worker);
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    replace_asked(container_of(signal, struct workerd, replace.signal));
}

int replace_init(struct workerd *worker, char *const *argv)
{
    struct replace *replace = &worker->replace;
    if (argv == NULL || argv[0] == NULL)
        return -EINVAL;
    if (replace->argv != NULL)
        return -EALREADY;
    int r = uv_signal_init(&worker->loop, &replace->signal);
    if (r < 0)
        return r;
    uv_timer_init(&worker->loop, &replace->timer);
    replace->argv = argv;
    if (cwd_name(replace->cwd, sizeof(replace->cwd)) < 0)
        replace->cwd[0] = '\0';
    worker->notify = worker->notify || notify_wanted();
    return uv_signal_start(&replace->signal, on_signal, SIGUSR2);
}

void replace_cancel(struct workerd *worker, bool at_once)
{
    struct replace *replace = &worker->replace;
    if (!replace_pending(&worker->replace))
        return;
    if (replace->state == REPLACE_STARTED)
        log_info("process %d, the successor, is ended: it is not to serve", replace->process.pid);
    replace->state = REPLACE_GIVEN_UP;
    uv_process_kill(&replace->process, at_once ? SIGKILL : SIGTERM);
    /*
     * Our end stays open until now: a successor that sees it closed takes us for dead, and serves.
     */
    if (at_once)
        hang_up(replace);
    else
        uv_timer_start(&replace->timer, on_timer, END_MS, 0);
}
