/*
 * shard_process_start() makes the control socket, executes this same program, and has shard_setup.c
 * send what the shard needs; the shard answers READY. When the process ends, waitpid() tells
 * lifecycle.c, which calls shard_process_ended(); of a process that was adopted its pidfd does.
 * What the shard held in the shared memory is taken back. Its generation decides whether it is
 * started again: one that serves does so at once, or later when the shard keeps ending. The
 * listening sockets stay open here all the time.
 */

#include "frontd/supervisor/shard_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/paths.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/supervisor/shard_setup.h"
#include "frontd/system/discard.h"
#include "frontd/system/loop.h"
#include "frontd/system/spawn.h"
#include "proto/json_scan.h"

enum {
    STEADY_MS = 5000,       /* a process that lived for this long has not "kept ending" */
    BACKOFF_FIRST_MS = 100, /* after the second end in a row; the first restart is at once */
    BACKOFF_MAX_MS = 10000,
    START_MAX_MS = 30000, /* from its start until it is ready, where no reload is waiting for it */
    CLOSE_WAIT_MS = 100,
    TELL_MS = 5, /* parts of answers: so many at once, and one in each of these ms */
    TELL_BURST = 200,
};

/* Which state may follow which one. */
static const struct {
    bool next[SHARD_PROCESS_STATES];
} states[] = {
    /* It is started; or it runs already, and is adopted in either state. */
    [SHARD_PROCESS_DOWN] = {{[SHARD_PROCESS_STARTING] = true, [SHARD_PROCESS_READY] = true}},
    /* It has said READY; or it has ended before. */
    [SHARD_PROCESS_STARTING] = {{[SHARD_PROCESS_READY] = true, [SHARD_PROCESS_DOWN] = true}},
    /* It has ended. */
    [SHARD_PROCESS_READY] = {{[SHARD_PROCESS_DOWN] = true}},
};

void shard_process_move(struct shard_process *process, enum shard_process_state state)
{
    CHECK(states[process->state].next[state]);
    process->state = state;
}

static void on_shard_restart(uv_timer_t *timer)
{
    shard_process_start(timer->data);
}

static uv_loop_t *loop_of(const struct shard_process *process)
{
    return &process->generation->front->loop;
}

const char *shard_process_name(const struct shard_process *process)
{
    static char name[48];
    snprintf(name, sizeof(name), "shard %llu/%u", (unsigned long long)process->generation->number,
        process->shard);
    return name;
}

static void on_shard_handle_closed(uv_handle_t *handle)
{
    struct shard_process *process = handle->data;
    generation_handle_closed(process->generation);
}

/* One of those that the next process has again. */
static void on_shard_watch_closed(uv_handle_t *handle)
{
    struct shard_process *process = handle->data;
    process->closing--;
    on_shard_handle_closed(handle);
}

static void close_watch(struct shard_process *process, uv_poll_t *poll)
{
    process->closing++;
    uv_close((uv_handle_t *)poll, on_shard_watch_closed);
}

void shard_process_init(
    struct shard_process *process, struct generation *generation, uint32_t shard, uint32_t seat)
{
    *process = (struct shard_process){
        .generation = generation, .shard = shard, .seat = seat, .sock = -1, .pidfd = -1, .pid = -1};
    CHECK(uv_timer_init(loop_of(process), &process->restart) == 0);
    process->restart.data = process;
    generation->handles++;
}

void shard_process_restart(struct shard_process *process)
{
    uint64_t delay = 0;
    CHECK(process->state == SHARD_PROCESS_DOWN);
    if (process->failures > 1)
        delay = MIN((uint64_t)BACKOFF_FIRST_MS << MIN(process->failures - 2, 10U),
            (uint64_t)BACKOFF_MAX_MS);
    if (delay > 0)
        log_warning("%s keeps ending, starting it again in %llu ms", shard_process_name(process),
            (unsigned long long)delay);
    CHECK(uv_timer_start(&process->restart, on_shard_restart, delay, 0) == 0);
}

void shard_process_kill(struct shard_process *process)
{
    if (process->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
    else if (process->pid > 0)
        kill(process->pid, SIGKILL); /* a child of ours that has not been waited for */
    /* Its end is seen like any other. */
}

static void check_beats(struct shard_process *process, uint64_t elapsed)
{
    struct generation *generation = process->generation;
    if (generation->share == NULL)
        return; /* of a program that shares memory in another way */
    uint64_t still = heartbeat_look(
        &process->heartbeat, share_beats(generation->share, process->seat), elapsed, SHARE_BEAT_MS);
    if (still < generation->conf->shard_timeout)
        return;
    process->hung = true;
    log_error("%s (pid %ld) has hung: no sign of life for %llu ms, killing it",
        shard_process_name(process), (long)process->pid, (unsigned long long)still);
    shard_process_kill(process);
}

void shard_process_check(struct shard_process *process, uint64_t elapsed)
{
    enum generation_role role = process->generation->role;
    if (process->pid < 0 || process->hung || role == GENERATION_STOPPING)
        return; /* a generation that stops has its own limit, the drain limit */
    if (process->state == SHARD_PROCESS_STARTING && role != GENERATION_SERVING)
        return; /* those that a reload starts have its limit */
    const struct share *share = process->generation->share;
    bool begun = process->state == SHARD_PROCESS_READY ||
                 (share != NULL && share_beats(share, process->seat) != process->beats_before);
    if (begun)
        check_beats(process, elapsed);
    if (process->state == SHARD_PROCESS_READY || process->hung)
        return;
    process->starting += MIN(elapsed, (uint64_t)SHARE_BEAT_MS);
    if (process->starting < START_MAX_MS)
        return;
    process->hung = true;
    log_error("%s (pid %ld) is not ready %d s after its start, killing it",
        shard_process_name(process), (long)process->pid, START_MAX_MS / 1000);
    shard_process_kill(process);
}

/* Whether it is one JSON object, and not nested so deep that it cannot be passed on in another. */
static bool is_answer(struct span text)
{
    const char *end = text.p + text.n;
    if (text.n < 2 || text.p[0] != '{')
        return false;
    return json_scan_value(text.p, end, JSON_SCAN_DEPTH_MAX / 2) == end;
}

/*
 * Whether a shard may tell something: an answer for each question, however many are asked, and
 * parts of answers as often as all that may be in progress are told in. Answers to a program before
 * this one come as seldom.
 */
static bool may_tell(struct shard_process *process, bool more)
{
    if (more || process->owed == 0)
        return log_rate_pass(&process->tells, uv_now(loop_of(process)), TELL_MS, TELL_BURST);
    process->owed--;
    return true;
}

/* An answer of a shard. fd: consumed. Returns 0 or -errno: it is not understood. */
static int take_tell(struct shard_process *process, const struct ctl_tell *tell, int fd)
{
    struct front *front = process->generation->front;
    struct buf text = {0};
    if (!may_tell(process, tell->more == 1)) {
        discard(&fd, 1, 0);
        return -EPROTO;
    }
    int r = ctl_read_text(fd, CTL_TELL_MAX, &text);
    if (r == -EPROTO)
        discard(&fd, 1, 0); /* it is no memory, and close() may wait for it */
    else
        close(fd);
    struct span told = {buf_data(&text), buf_len(&text)};
    if (r == 0 && !is_answer(told))
        r = -EPROTO;
    if (r == 0)
        front->ops->told(front, process, tell, told);
    buf_deinit(&text);
    return r == -ENOMEM ? 0 : r; /* it is silent then */
}

/*
 * One message in each turn of the loop, so that no shard keeps us from the others. It has to be
 * READY from one that is starting, or afterwards HUNG, which names a worker and is only a reason to
 * look, or TELL: a shard has nothing else to say, and one that does is not ours any more. One that
 * closes its end without ending is no better.
 */
static void on_shard_control(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct shard_process *process = poll->data;
    struct front *front = process->generation->front;
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    int r = ctl_receive_all(process->sock, &message, fds, &nfds);
    if (r == 0 && message.type == CTL_TELL && process->state == SHARD_PROCESS_READY) {
        r = take_tell(process, &message.u.tell, fds[0]);
        if (r == 0)
            return;
        nfds = 0;
    }
    discard(fds, nfds, 0); /* READY has none */
    if (r == -EAGAIN)
        return;
    bool ready = r == 0 && message.type == CTL_READY && !ctl_is_foreign(&message);
    if (ready && process->state == SHARD_PROCESS_STARTING) {
        shard_process_move(process, SHARD_PROCESS_READY);
        generation_shard_ready(process->generation, process);
        return;
    }
    if (r == 0 && message.type == CTL_HUNG && process->state == SHARD_PROCESS_READY) {
        struct ctl_hung *hung = &message.u.hung;
        hung->file[sizeof(hung->file) - 1] = '\0';
        front->ops->hung(front, hung->file, hung->late == 1);
        return;
    }
    if (r != -EPIPE && r != -ECONNRESET) {
        log_error("%s: bad control message (%s), killing it", shard_process_name(process),
            r == 0 ? "unexpected" : strerror(-r));
    }
    shard_process_kill(process);
    uv_poll_stop(&process->control); /* its end is told by waitpid() or its pidfd */
}

static int watch_control(struct shard_process *process, int control)
{
    process->sock = control;
    int r = loop_poll_init(loop_of(process), &process->control, control);
    if (r < 0)
        return r;
    process->control.data = process;
    process->control_open = true;
    process->generation->handles++;
    return uv_poll_start(&process->control, UV_READABLE, on_shard_control);
}

static void close_control(struct shard_process *process)
{
    if (process->control_open)
        close_watch(process, &process->control);
    if (process->sock >= 0)
        discard(&process->sock, 1, CLOSE_WAIT_MS); /* with what has come and was not looked at */
    process->control_open = false;
    process->sock = -1;
}

static void close_end(struct shard_process *process)
{
    if (process->end_open)
        close_watch(process, &process->end);
    if (process->pidfd >= 0)
        close(process->pidfd);
    process->end_open = false;
    process->pidfd = -1;
}

static void on_shard_end(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    shard_process_ended(poll->data, -1);
}

/* Watches the end of a process that is not our child. */
static int watch_end(struct shard_process *process)
{
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0); /* close-on-exec by itself */
    if (process->pidfd < 0)
        return -errno;
    /* From here on no other can get its PID; whether one has already, its mark tells. */
    if (!process_is(&process->mark, process->pid, process->pidfd))
        return -ESRCH;
    int r = loop_poll_init(loop_of(process), &process->end, process->pidfd);
    if (r < 0)
        return r;
    process->end.data = process;
    process->end_open = true;
    process->generation->handles++;
    return uv_poll_start(&process->end, UV_READABLE, on_shard_end);
}

int shard_process_adopt(struct shard_process *process, pid_t pid, int sock, bool ours, bool ready)
{
    process->pid = pid;
    shard_process_move(process, ready ? SHARD_PROCESS_READY : SHARD_PROCESS_STARTING);
    process->started = uv_now(loop_of(process));
    if (process->mark.birth == 0 && process->mark.ino == 0) /* a program before has not said it */
        process->mark = process_mark(pid, -1);
    int r = watch_control(process, sock);
    return r == 0 && !ours ? watch_end(process) : r;
}

static int start_process(struct shard_process *process)
{
    struct front *front = process->generation->front;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    char number[40];
    snprintf(number, sizeof(number), "%llu/%u", (unsigned long long)process->generation->number,
        process->shard);
    char *words[] = {(char[]){"frontd"}, (char[]){"--shard"}, number};
    const struct spawn spawn = {
        .path = PATHS_SELF,
        .words = words,
        .n = ARRAY_LEN(words),
        .fds = {-1, -1, -1, pair[1]},
        .nfds = CTL_FD + 1,
        .without = sd_notify_variables,
    };
    int r = spawn_start(&spawn, &process->pid);
    close(pair[1]);
    if (r < 0) {
        close(pair[0]);
        return r;
    }
    shard_process_move(process, SHARD_PROCESS_STARTING);
    process->started = uv_now(loop_of(process));
    process->heartbeat = (struct heartbeat){0};
    process->starting = 0;
    process->hung = false;
    process->asks = true;
    process->owed = 0;
    process->tells = (struct log_rate){0};
    process->ours = true;
    process->mark = process_mark(process->pid, -1);
    process->incarnation = ++front->incarnations;
    if (process->generation->share != NULL)
        process->beats_before = share_beats(process->generation->share, process->seat);
    r = watch_control(process, pair[0]);
    front->ops->changed(front);
    if (r == 0)
        r = shard_setup(process);
    if (r < 0) {
        log_error(
            "%s: cannot set it up: %s, killing it", shard_process_name(process), strerror(-r));
        shard_process_kill(process);
    }
    return 0;
}

void shard_process_start(struct shard_process *process)
{
    /*
     * The memory of the last process's handles is used again when they are closed. The loop closes
     * handles behind its timers: where the end was seen before the loop runs, as when the program
     * is replaced, the restart timer is first.
     */
    if (process->closing > 0) {
        CHECK(uv_timer_start(&process->restart, on_shard_restart, 1, 0) == 0);
        return;
    }
    int r = start_process(process);
    if (r < 0) {
        log_error("%s: cannot start it: %s", shard_process_name(process), strerror(-r));
        process->failures = MAX(process->failures + 1, 2U);
        shard_process_restart(process);
    }
}

static void log_end(const struct shard_process *process, int status)
{
    bool expected = process->generation->role == GENERATION_LEAVING ||
                    process->generation->role == GENERATION_STOPPING;
    const char *then = expected ? ""
                       : process->generation->role == GENERATION_STARTING
                           ? ", before all were ready"
                           : ", its connections are lost; starting it again";
    if (status == -1)
        log_write(expected ? LOG_INFO : LOG_ERROR, "%s (pid %ld) has ended%s",
            shard_process_name(process), (long)process->pid, then);
    else if (WIFSIGNALED(status))
        log_write(process->generation->role == GENERATION_STOPPING ? LOG_INFO : LOG_ERROR,
            "%s (pid %ld) was ended by signal %d%s%s", shard_process_name(process),
            (long)process->pid, WTERMSIG(status),
            WTERMSIG(status) == SIGSYS ? " (it tried a system call that no shard makes)" : "",
            expected ? ", its connections are lost" : then);
    else if (!expected || WEXITSTATUS(status) != 0)
        log_write(expected ? LOG_WARNING : LOG_ERROR, "%s (pid %ld) exited with status %d%s%s",
            shard_process_name(process), (long)process->pid, WEXITSTATUS(status),
            WEXITSTATUS(status) == SPAWN_FAILED ? " (" PATHS_SELF " cannot be executed)" : "",
            then);
    else
        log_debug("%s (pid %ld) has ended", shard_process_name(process), (long)process->pid);
}

void shard_process_lost(struct shard_process *process, int status)
{
    struct generation *generation = process->generation;
    log_end(process, status);
    close_control(process);
    close_end(process);
    process->pid = -1;
    shard_process_move(process, SHARD_PROCESS_DOWN);
    process->mark = (struct process_mark){0};
    generation_reclaim(generation->front);
}

void shard_process_ended(struct shard_process *process, int status)
{
    shard_process_lost(process, status);
    if (generation_shard_ended(process->generation)) {
        bool steady = uv_now(loop_of(process)) - process->started >= STEADY_MS;
        process->failures = steady ? 1 : process->failures + 1;
        shard_process_restart(process);
    }
}

void shard_process_tell(
    struct shard_process *process, enum ctl_type type, struct ctl_message *message)
{
    if (process->pid < 0)
        return;
    int r = ctl_send(process->sock, type, message, NULL, 0);
    if (r < 0) {
        log_error("%s: cannot tell it what to do: %s, killing it", shard_process_name(process),
            strerror(-r));
        shard_process_kill(process);
    }
}

void shard_process_close(struct shard_process *process)
{
    close_control(process);
    close_end(process);
    uv_close((uv_handle_t *)&process->restart, on_shard_handle_closed);
}
