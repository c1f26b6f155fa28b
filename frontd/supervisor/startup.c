#include "frontd/supervisor/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/random.h"
#include "frontd/system/folder.h"

enum { LOCK_TRIES = 100, LOCK_PAUSE_MS = 10 };

uint64_t startup_raise_fd_limit(const struct conf *conf)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t each = conf_connections_of(limit.rlim_cur, conf->shards);
    if (each < conf->limits.connections / conf->shards)
        log_warning("the descriptor limit of %llu allows %llu connections on %u shards, the config "
                    "asks for %llu",
            (unsigned long long)limit.rlim_cur, (unsigned long long)each * conf->shards,
            conf->shards, (unsigned long long)conf->limits.connections);
    return each;
}

void startup_warn_of_root(const struct conf *conf)
{
    if (geteuid() != 0)
        return;
    const struct passwd *entry = conf->user == NULL ? NULL : getpwnam(conf->user);
    if (conf->user == NULL)
        log_warning(
            "shards and workers run as root, though without capabilities: whoever takes one "
            "over has the files of root. Write `user: NAME` into the config, or `user: "
            "root` if it is meant");
    else if (entry != NULL && entry->pw_uid == 0)
        log_warning("shards and workers run as root, though without capabilities, as `user: %s` "
                    "says: whoever takes one over has the files of root",
            conf->user);
}

/* Whether the process that the PID file names is there. */
static bool is_holder_alive(int fd)
{
    char text[32] = "";
    if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
        return false;
    long pid = strtol(text, NULL, 10);
    return pid > 0 && pid <= INT32_MAX && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/*
 * A process that a supervisor was about to execute when it was killed has the lock with it, until
 * it executes something or finds that it is alone. That is waited for; a supervisor is not.
 */
static int lock(int fd)
{
    static const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000 * 1000};
    int r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    for (int i = 0; r == -EWOULDBLOCK && i < LOCK_TRIES && !is_holder_alive(fd); i++) {
        nanosleep(&pause, NULL);
        r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    }
    return r;
}

int startup_lock_run_dir(struct front *front, const struct conf *conf)
{
    char error[512];
    front->run_dir_fd = folder_open(conf->run_dir, true, error, sizeof(error));
    if (front->run_dir_fd < 0) {
        log_error("run_dir %s", error);
        return -1;
    }
    front->lock_fd = folder_open_file(front->run_dir_fd, STARTUP_PID_FILE, O_RDWR | O_CREAT, 0640);
    if (front->lock_fd == -EPERM || front->lock_fd == -ELOOP) {
        log_error("run_dir %s: " STARTUP_PID_FILE
                  " is not a plain file of the user who runs frontd alone: "
                  "remove it",
            conf->run_dir);
        return -1;
    }
    if (front->lock_fd < 0) {
        log_error("run_dir %s: cannot open " STARTUP_PID_FILE ": %s", conf->run_dir,
            strerror(-front->lock_fd));
        return -1;
    }
    if (lock(front->lock_fd) < 0) {
        log_error("run_dir %s: another frontd runs with it, see " STARTUP_PID_FILE " there",
            conf->run_dir);
        close(front->lock_fd);
        front->lock_fd = -1;
        return -1;
    }
    if (ftruncate(front->lock_fd, 0) < 0 || dprintf(front->lock_fd, "%ld\n", (long)getpid()) < 0)
        log_warning(
            "run_dir %s: cannot write " STARTUP_PID_FILE ": %s", conf->run_dir, strerror(errno));
    return 0;
}

void startup_unlock_run_dir(struct front *front)
{
    if (front->run_dir_fd >= 0)
        close(front->run_dir_fd);
    front->run_dir_fd = -1;
    if (front->lock_fd < 0)
        return;
    if (ftruncate(front->lock_fd, 0) < 0)
        log_debug("cannot empty " STARTUP_PID_FILE ": %s", strerror(errno));
    close(front->lock_fd);
    front->lock_fd = -1;
}

void startup_identity(struct front *front)
{
    uint32_t first;
    /* A front that is started anew does not begin where the last one did. */
    random_bytes(&first, sizeof(first));
    front->incarnations = first >> 1;
    random_hex(front->instance, sizeof(front->instance) / 2);
    startup_conn_key(front);
    front->started = front_time_of_day();
}

void startup_conn_key(struct front *front)
{
    random_bytes(front->conn_key, sizeof(front->conn_key));
}
