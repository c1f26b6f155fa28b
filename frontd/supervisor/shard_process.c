/*
 * A shard's life. shard_process_start() makes the control socket, forks and executes this same
 * program, and sends START (who it is, config, shared memory), LISTEN (its sockets), PEER (a socket
 * to each shard that there is) and RUN; the shard answers READY. When the process ends, waitpid()
 * tells supervisor.c (or, of one that was adopted, its pidfd does), which calls
 * shard_process_ended(): what the shard held in the shared memory is taken back. Whether it is
 * started again is its generation's business: one that serves does so at once, or later when it
 * keeps dying. The listening sockets stay open here all the time.
 */

#include "frontd/supervisor/shard_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/supervisor/discard.h"
#include "frontd/supervisor/generation.h"
#include "frontd/supervisor/paths.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/system/loop.h"

enum {
    STEADY_MS = 5000,       /* who lived this long has not "kept dying" */
    BACKOFF_FIRST_MS = 100, /* after the second death in a row; the first restart is at once */
    BACKOFF_MAX_MS = 10000,
    START_MAX_MS = 30000, /* from its start until it is ready, where no reload is waiting for it */
    CLOSE_WAIT_MS = 100,
    CROWDED_TRIES = 500, /* a millisecond each: for shards to take descriptors */
    EXIT_NOT_EXECUTED = 127,
};

static void on_restart(uv_timer_t *timer)
{
    shard_process_start(timer->data);
}

static uv_loop_t *loop_of(const struct shard_process *process)
{
    return &process->generation->front->loop;
}

/* For the log: which shard of which generation. */
static const char *name_of(const struct shard_process *process)
{
    static char name[48];
    snprintf(name, sizeof(name), "shard %llu/%u", (unsigned long long)process->generation->number,
        process->shard);
    return name;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct shard_process *process = handle->data;
    generation_handle_closed(process->generation);
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
    process->state = SHARD_PROCESS_DOWN;
    if (process->failures > 1)
        delay = MIN((uint64_t)BACKOFF_FIRST_MS << MIN(process->failures - 2, 10U),
            (uint64_t)BACKOFF_MAX_MS);
    if (delay > 0)
        log_warning("%s keeps ending, starting it again in %llu ms", name_of(process),
            (unsigned long long)delay);
    CHECK(uv_timer_start(&process->restart, on_restart, delay, 0) == 0);
}

/*
 * In the forked child: becomes a shard. Only async-signal-safe calls, and sd_notify_forget(), which
 * may be called since the supervisor has no other threads.
 */
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
    sd_notify_forget();
    execv(PATHS_SELF, argv);
    _exit(EXIT_NOT_EXECUTED);
}

/*
 * Sends a message with descriptors. The kernel counts how many of one user's are on their way, and
 * refuses more than RLIMIT_NOFILE of the sender to whoever has no capability for that
 * (ETOOMANYREFS): then shards that have been sent some get time to take them.
 */
static int send_fds(
    int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds)
{
    static const struct timespec pause = {.tv_nsec = 1000 * 1000};
    int r = ctl_send(sock, type, message, fds, nfds);
    for (int i = 0; r == -ETOOMANYREFS && i < CROWDED_TRIES; i++) {
        nanosleep(&pause, NULL);
        r = ctl_send(sock, type, message, fds, nfds);
    }
    return r;
}

/* The pools, a bit each, that are in both configs, with workers that are run by the same party:
 * those that the supervisor is about to start come when the new shards serve. */
static uint64_t common_pools(const struct conf *conf, const struct conf *other)
{
    uint64_t pools = 0;
    for (uint32_t i = 0; i < conf->npools; i++) {
        for (uint32_t k = 0; k < other->npools; k++) {
            if (strcmp(conf->pools[i].name, other->pools[k].name) == 0 &&
                (conf->pools[i].command == NULL) == (other->pools[k].command == NULL))
                pools |= (uint64_t)1 << i;
        }
    }
    return pools;
}

/* What a shard that is to take the place of others has to reach first. */
static void put_serving(const struct generation *generation, struct ctl_start *start)
{
    const struct generation *serving = generation->front->generations[0];
    if (generation->role != GENERATION_STARTING || serving == generation)
        return;
    if (!serving->stand_in)
        start->needed = common_pools(generation->conf, serving->conf);
    for (uint32_t i = 0; i < serving->nprocesses; i++) {
        if (serving->processes[i].state == SHARD_PROCESS_READY)
            start->serving |= share_seat_bit(serving->processes[i].seat);
    }
}

static int send_start(struct shard_process *process, int control)
{
    struct generation *generation = process->generation;
    struct front *front = generation->front;
    struct ctl_message message = {0};
    struct ctl_start *start = &message.u.start;
    if (generation->share == NULL)
        return -ENOTSUP; /* this program's shards share in another way; the reload to come helps */
    start->incarnation = process->incarnation;
    start->generation = generation->number;
    start->seat = process->seat;
    start->shard = process->shard;
    start->shards = generation->nprocesses;
    memcpy(start->instance, front->instance, sizeof(start->instance));
    memcpy(start->conn_key, front->conn_key, sizeof(start->conn_key));
    snprintf(start->conf_name, sizeof(start->conf_name), "%s", front->conf_name);
    start->table = *share_table(generation->share);
    put_serving(generation, start);
    int fds[CTL_START_FDS];
    fds[CTL_CONF] = generation->conf_fd;
    fds[CTL_SHARE] = generation->share_fd;
    fds[CTL_WAKE] = front->wake_fds[process->seat];
    return send_fds(control, CTL_START, &message, fds, CTL_START_FDS);
}

static int flush_listeners(int control, struct ctl_message *message, const int *fds)
{
    int r = send_fds(control, CTL_LISTEN, message, fds, message->u.listen.count);
    message->u.listen.count = 0;
    return r;
}

/* Those of one address. */
static int send_sockets(const struct shard_process *process, int control, uint32_t listener,
    const struct endpoint *endpoint, struct ctl_message *message, int *fds)
{
    struct ctl_listen *listen = &message->u.listen;
    uint32_t step = endpoint->shared ? 1 : process->generation->nprocesses;
    int r = 0;
    for (uint32_t n = endpoint->shared ? 0 : process->shard; r == 0 && n < endpoint->count;
         n += step) {
        fds[listen->count] = endpoint->fds[n];
        listen->listeners[listen->count++] = listener;
        if (listen->count == CTL_LISTEN_MAX)
            r = flush_listeners(control, message, fds);
    }
    return r;
}

/* Of each listener its own sockets: where there are more sockets than shards, every n-th. */
static int send_listeners(struct shard_process *process, int control)
{
    struct generation *generation = process->generation;
    const struct conf *conf = generation->conf;
    struct ctl_message message = {0};
    struct ctl_listen *listen = &message.u.listen;
    int fds[CTL_LISTEN_MAX];
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        for (uint32_t a = 0; r == 0 && a < listener->naddresses; a++) {
            const struct endpoint *endpoint = endpoints_find(
                &generation->front->endpoints, &listener->addresses[a]);
            if (endpoint != NULL) /* else it could not be bound */
                r = send_sockets(process, control, i, endpoint, &message, fds);
        }
    }
    return r == 0 && listen->count > 0 ? flush_listeners(control, &message, fds) : r;
}

void shard_process_kill(struct shard_process *process)
{
    if (process->pidfd >= 0)
        syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
    else if (process->pid > 0)
        kill(process->pid, SIGKILL); /* a child of ours that has not been waited for */
    /* Its end is seen like any other. */
}

/* Of a shard that does not read what it is told. Nobody waits for it. */
static void give_up_on(struct shard_process *process)
{
    log_error("%s does not read what it is told, killing it", name_of(process));
    shard_process_kill(process);
}

/* Sends each of two shards an end of a socket pair; for PEER with the other's wake-up eventfd. */
static int link_shards(struct shard_process *one, enum ctl_type to_one, int type,
    struct shard_process *other, enum ctl_type to_other)
{
    const int *wake_fds = one->generation->front->wake_fds;
    int pair[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    struct ctl_message message_to_one = {.u.peer.seat = other->seat};
    struct ctl_message message_to_other = {.u.peer.seat = one->seat};
    int fds_to_one[CTL_PEER_FDS] = {pair[0], wake_fds[other->seat]};
    int fds_to_other[CTL_PEER_FDS] = {pair[1], wake_fds[one->seat]};
    size_t nfds = to_one == CTL_PEER ? CTL_PEER_FDS : 1;
    int r = send_fds(one->sock, to_one, &message_to_one, fds_to_one, nfds);
    int r_other = r < 0 ? 0
                        : send_fds(other->sock, to_other, &message_to_other, fds_to_other, nfds);
    if (r_other < 0)
        log_error("%s cannot be told of another shard: %s", name_of(other), strerror(-r_other));
    if (r == -EAGAIN)
        give_up_on(one);
    if (r_other == -EAGAIN)
        give_up_on(other);
    close(pair[0]);
    close(pair[1]);
    return r;
}

int shard_process_hand_over(struct shard_process *from, struct shard_process *to)
{
    return link_shards(from, CTL_GIVE, SOCK_SEQPACKET, to, CTL_TAKE);
}

/* Each two shards that run, whatever their generation, have a socket between them. */
static int connect_peers(struct shard_process *process)
{
    struct front *front = process->generation->front;
    int r = 0;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        struct generation *generation = front->generations[g];
        for (uint32_t i = 0; r == 0 && generation != NULL && i < generation->nprocesses; i++) {
            struct shard_process *other = &generation->processes[i];
            if (other != process && other->sock >= 0)
                r = link_shards(process, CTL_PEER, SOCK_STREAM, other, CTL_PEER);
        }
    }
    return r;
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
    log_error("%s (pid %ld) has hung: no sign of life for %llu ms, killing it", name_of(process),
        (long)process->pid, (unsigned long long)still);
    shard_process_kill(process);
}

void shard_process_check(struct shard_process *process, uint64_t elapsed)
{
    enum generation_role role = process->generation->role;
    if (process->pid < 0 || process->hung || role == GENERATION_STOPPING)
        return; /* whoever stops has its own limit, the drain limit */
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
    log_error("%s (pid %ld) is not ready %d s after its start, killing it", name_of(process),
        (long)process->pid, START_MAX_MS / 1000);
    shard_process_kill(process);
}

/*
 * One message in each turn of the loop, so that no shard keeps us from the others. It has to be
 * READY from one that is starting, or afterwards HUNG, which names a worker and is only a reason to
 * look: a shard has nothing else to say, and one that does is not ours any more. One that closes
 * its end without ending is no better.
 */
static void on_control(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct shard_process *process = poll->data;
    struct front *front = process->generation->front;
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    int r = ctl_receive_all(process->sock, &message, fds, &nfds);
    discard(fds, nfds, 0); /* READY has none */
    if (r == -EAGAIN)
        return;
    bool ready = r == 0 && message.type == CTL_READY && !ctl_is_foreign(&message);
    if (ready && process->state == SHARD_PROCESS_STARTING) {
        process->state = SHARD_PROCESS_READY;
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
        log_error("%s: bad control message (%s), killing it", name_of(process),
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
    return uv_poll_start(&process->control, UV_READABLE, on_control);
}

static void close_control(struct shard_process *process)
{
    if (process->control_open)
        uv_close((uv_handle_t *)&process->control, on_handle_closed);
    if (process->sock >= 0)
        discard(&process->sock, 1, CLOSE_WAIT_MS); /* with what has come and was not looked at */
    process->control_open = false;
    process->sock = -1;
}

static void close_end(struct shard_process *process)
{
    if (process->end_open)
        uv_close((uv_handle_t *)&process->end, on_handle_closed);
    if (process->pidfd >= 0)
        close(process->pidfd);
    process->end_open = false;
    process->pidfd = -1;
}

static void on_end(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    shard_process_ended(poll->data, -1);
}

/* A process that is not our child. */
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
    return uv_poll_start(&process->end, UV_READABLE, on_end);
}

int shard_process_adopt(struct shard_process *process, pid_t pid, int sock, bool ours)
{
    process->pid = pid;
    process->state = SHARD_PROCESS_READY;
    process->started = uv_now(loop_of(process));
    if (process->mark.birth == 0 && process->mark.ino == 0) /* a program before has not said it */
        process->mark = process_mark(pid, -1);
    int r = watch_control(process, sock);
    return r == 0 && !ours ? watch_end(process) : r;
}

static int spawn(struct shard_process *process)
{
    struct front *front = process->generation->front;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    char number[40];
    snprintf(number, sizeof(number), "%llu/%u", (unsigned long long)process->generation->number,
        process->shard);
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
    process->pid = pid;
    process->state = SHARD_PROCESS_STARTING;
    process->started = uv_now(loop_of(process));
    process->heartbeat = (struct heartbeat){0};
    process->starting = 0;
    process->hung = false;
    process->mark = process_mark(pid, -1);
    process->incarnation = ++front->incarnations;
    if (process->generation->share != NULL)
        process->beats_before = share_beats(process->generation->share, process->seat);
    r = watch_control(process, pair[0]);
    front->ops->changed(front);
    struct ctl_message run = {0};
    if (r == 0)
        r = send_start(process, pair[0]);
    if (r == 0)
        r = send_listeners(process, pair[0]);
    if (r == 0)
        r = connect_peers(process);
    if (r == 0)
        r = ctl_send(pair[0], CTL_RUN, &run, NULL, 0);
    if (r < 0) {
        log_error("%s: cannot set it up: %s, killing it", name_of(process), strerror(-r));
        shard_process_kill(process);
    }
    return 0;
}

void shard_process_start(struct shard_process *process)
{
    /* Called from the restart timer at the earliest, so the close of the last process's handles,
     * whose memory is used again, has run. */
    int r = spawn(process);
    if (r < 0) {
        log_error("%s: cannot start it: %s", name_of(process), strerror(-r));
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
        log_write(expected ? LOG_INFO : LOG_ERROR, "%s (pid %ld) has ended%s", name_of(process),
            (long)process->pid, then);
    else if (WIFSIGNALED(status))
        log_write(process->generation->role == GENERATION_STOPPING ? LOG_INFO : LOG_ERROR,
            "%s (pid %ld) was ended by signal %d%s%s", name_of(process), (long)process->pid,
            WTERMSIG(status),
            WTERMSIG(status) == SIGSYS ? " (it tried a system call that no shard makes)" : "",
            expected ? ", its connections are lost" : then);
    else if (!expected || WEXITSTATUS(status) != 0)
        log_write(expected ? LOG_WARNING : LOG_ERROR, "%s (pid %ld) exited with status %d%s%s",
            name_of(process), (long)process->pid, WEXITSTATUS(status),
            WEXITSTATUS(status) == EXIT_NOT_EXECUTED ? " (" PATHS_SELF " cannot be executed)" : "",
            then);
    else
        log_debug("%s (pid %ld) has ended", name_of(process), (long)process->pid);
}

void shard_process_lost(struct shard_process *process, int status)
{
    struct generation *generation = process->generation;
    log_end(process, status);
    close_control(process);
    close_end(process);
    process->pid = -1;
    process->state = SHARD_PROCESS_DOWN;
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
        log_error("%s: cannot tell it what to do: %s, killing it", name_of(process), strerror(-r));
        shard_process_kill(process);
    }
}

void shard_process_close(struct shard_process *process)
{
    close_control(process);
    close_end(process);
    uv_close((uv_handle_t *)&process->restart, on_handle_closed);
}
