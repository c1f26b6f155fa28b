#include "frontd/super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"
#include "frontd/conf_file.h"

enum {
    DRAIN_GRACE_MS = 2000, /* what a shard gets beyond the drain limit before it is killed */
};

static void stop_now(struct super *super)
{
    for (uint32_t i = 0; i < super->conf->shards; i++) {
        if (super->children[i].pid > 0)
            kill(super->children[i].pid, SIGKILL);
    }
}

static void on_drain_limit(uv_timer_t *timer)
{
    struct super *super = timer->data;
    log_warning("shards are still there after the drain limit, killing them");
    stop_now(super);
}

static void close_handles(struct super *super)
{
    for (size_t i = 0; i < ARRAY_LEN(super->signals); i++)
        uv_close((uv_handle_t *)&super->signals[i], NULL);
    uv_close((uv_handle_t *)&super->drain_limit, NULL);
    for (uint32_t i = 0; i < super->conf->shards; i++)
        child_close(&super->children[i]);
}

void super_child_gone(struct super *super)
{
    for (uint32_t i = 0; i < super->conf->shards; i++) {
        if (super->children[i].pid > 0)
            return;
    }
    close_handles(super);
}

void super_child_ready(struct super *super)
{
    for (uint32_t i = 0; i < super->conf->shards; i++) {
        if (super->children[i].state != CHILD_READY)
            return;
    }
    if (!super->announced)
        log_info("ready: %u shards, %u listeners", super->conf->shards, super->conf->nlisteners);
    super->announced = true;
}

static void stop(struct super *super)
{
    super->stopping = true;
    log_info("stopping: calls have %llu ms to end", (unsigned long long)super->conf->drain);
    for (uint32_t i = 0; i < super->conf->shards; i++)
        child_drain(&super->children[i]);
    uv_timer_start(&super->drain_limit, on_drain_limit, super->conf->drain + DRAIN_GRACE_MS, 0);
    super_child_gone(super); /* none may be running */
}

static void reap(struct super *super)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (uint32_t i = 0; i < super->conf->shards; i++) {
            if (super->children[i].pid == pid)
                child_ended(&super->children[i], status);
        }
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct super *super = handle->data;
    switch (number) {
    case SIGCHLD: reap(super); break;
    case SIGHUP: log_warning("SIGHUP: loading a new config is not supported yet, ignored"); break;
    case SIGUSR2:
        log_warning("SIGUSR2: replacing the program is not supported yet, ignored");
        break;
    case SIGTERM:
        if (!super->stopping) {
            stop(super);
            break;
        }
        __attribute__((fallthrough));
    case SIGINT:
    case SIGQUIT:
        log_info("stopping at once");
        if (!super->stopping)
            stop(super);
        stop_now(super);
        break;
    default: break;
    }
}

static int init_loop(struct super *super)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR2};
    _Static_assert(ARRAY_LEN(numbers) == ARRAY_LEN(super->signals), "one handle each");
    int r = uv_loop_init(&super->loop);
    if (r < 0)
        return r;
    CHECK(uv_timer_init(&super->loop, &super->drain_limit) == 0);
    super->drain_limit.data = super;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        CHECK(uv_signal_init(&super->loop, &super->signals[i]) == 0);
        super->signals[i].data = super;
        r = uv_signal_start(&super->signals[i], on_signal, numbers[i]);
        if (r < 0)
            return r;
    }
    for (uint32_t i = 0; i < super->conf->shards; i++)
        child_init(&super->children[i], super, i);
    return 0;
}

/* More connections than descriptors cannot be had: as many as the hard limit allows, and say so. */
static uint64_t raise_fd_limit(const struct conf *conf)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t each = conf_connections_of(limit.rlim_cur);
    if (each < conf->limits.connections / conf->shards)
        log_warning("the descriptor limit of %llu allows %llu connections on %u shards, the config "
                    "asks for %llu",
            (unsigned long long)limit.rlim_cur, (unsigned long long)each * conf->shards,
            conf->shards, (unsigned long long)conf->limits.connections);
    return each;
}

/* One front for each run_dir: whoever holds the lock of its PID file. */
static int lock_run_dir(struct super *super)
{
    const char *dir = super->conf->run_dir;
    char path[4096];
    if (mkdir(dir, 0750) < 0 && errno != EEXIST) {
        log_error("run_dir %s: cannot make it: %s", dir, strerror(errno));
        return -1;
    }
    snprintf(path, sizeof(path), "%s/frontd.pid", dir);
    super->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (super->lock_fd < 0) {
        log_error("run_dir %s: cannot open frontd.pid: %s", dir, strerror(errno));
        return -1;
    }
    if (flock(super->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        log_error("run_dir %s: another frontd runs with it, see frontd.pid there", dir);
        return -1;
    }
    if (ftruncate(super->lock_fd, 0) < 0 || dprintf(super->lock_fd, "%ld\n", (long)getpid()) < 0)
        log_warning("run_dir %s: cannot write frontd.pid: %s", dir, strerror(errno));
    return 0;
}

static int make_memfd(const struct buf *text)
{
    int fd = memfd_create("frontd-config", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (write(fd, buf_data(text), buf_len(text)) != (ssize_t)buf_len(text) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

static size_t peer_cells(const struct conf *conf, uint64_t connections_each)
{
    if (conf->limits.connections_per_peer == 0)
        return 0;
    uint64_t most = MIN(conf->limits.connections, connections_each);
    size_t cells = 64;
    while (cells < most * 2)
        cells *= 2;
    return cells;
}

static int make_shared(struct super *super, const struct buf *text, uint64_t connections_each)
{
    uint8_t random[16];
    CHECK(getrandom(random, sizeof(random), 0) == (ssize_t)sizeof(random));
    /* Connection ids are made of it: a front that is started anew does not begin where the last
     * one did. */
    memcpy(&super->incarnations, random, 4);
    super->incarnations >>= 1;
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(super->instance + 2 * i, 3, "%02x", random[i]);
    super->conf_fd = make_memfd(text);
    if (super->conf_fd < 0)
        return super->conf_fd;
    int r = share_create(peer_cells(super->conf, connections_each), &super->share_fd);
    if (r == 0)
        r = share_map(super->share_fd, &super->share);
    for (uint32_t i = 0; r == 0 && i < super->conf->shards; i++) {
        super->wake_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (super->wake_fds[i] < 0)
            r = -errno;
    }
    return r;
}

static int start(struct super *super, const struct buf *text)
{
    char error[512];
    signal(SIGPIPE, SIG_IGN);
    log_init(super->conf->log_level, super->conf->log_format, "supervisor");
    uint64_t connections_each = raise_fd_limit(super->conf);
    if (lock_run_dir(super) < 0)
        return -1;
    if (super_listen(&super->sockets, super->conf, error, sizeof(error)) < 0) {
        log_error("%s", error);
        return -1;
    }
    int r = make_shared(super, text, connections_each);
    if (r == 0)
        r = init_loop(super);
    if (r < 0) {
        log_error("cannot start: %s", strerror(-r));
        super_unlisten(&super->sockets, super->conf);
        return -1;
    }
    for (uint32_t i = 0; i < super->conf->shards; i++)
        child_start(&super->children[i]);
    return 0;
}

static void finish(struct super *super)
{
    CHECK(uv_loop_close(&super->loop) == 0);
    super_unlisten(&super->sockets, super->conf);
    share_unmap(super->share);
    for (uint32_t i = 0; i < super->conf->shards; i++)
        close(super->wake_fds[i]);
    close(super->share_fd);
    close(super->conf_fd);
    if (ftruncate(super->lock_fd, 0) < 0)
        log_debug("cannot empty frontd.pid: %s", strerror(errno));
    close(super->lock_fd);
    log_info("stopped");
}

int super_run(const char *conf_name)
{
    struct super *super = mem_zalloc(sizeof(*super));
    struct buf text = {0};
    char error[512];
    if (super == NULL) {
        log_error("cannot start: no memory");
        return 1;
    }
    super->conf_name = conf_name;
    if (conf_file_load(conf_name, &text, &super->conf, error, sizeof(error)) < 0) {
        fprintf(stderr, "%s\n", error);
        mem_free(super);
        return 1;
    }
    int status = 1;
    if (start(super, &text) == 0) {
        buf_deinit(&text);
        uv_run(&super->loop, UV_RUN_DEFAULT);
        finish(super);
        status = 0;
    }
    buf_deinit(&text);
    conf_free(super->conf);
    mem_free(super);
    return status;
}
