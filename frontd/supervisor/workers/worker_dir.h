#pragma once

/*
 * The folder run_dir/workers: a socket for each worker that frontd runs, POOL.SLOT-SERIAL.sock, and
 * the file `pids`, from which a supervisor that comes after one that was killed learns which
 * workers are still there.
 */

#include <sys/types.h>

#include "frontd/system/spawn.h"

enum {
    WORKER_PATH_MAX = 108, /* sun_path, its NUL included */
    WORKER_NAME_MAX = 33,  /* of a pool, its NUL included; the config's check holds it */
};

/* The worker that a socket belongs to, as the name of its file says. */
struct worker_name {
    char pool[WORKER_NAME_MAX];
    uint32_t slot;   /* from 0 to instances - 1 */
    uint32_t serial; /* two processes at one slot never have the same path */
};

/* A process as it stands in `pids`. */
struct worker_dir_process {
    pid_t pid;
    uint64_t
        birth; /* ticks after boot, as in /proc/PID/stat: a later one with its pid has another */
    struct worker_name name;
    bool same_boot; /* as read: it is of this run of the system; older programs do not say it */
};

/*
 * Makes the folder where it is not there, and lets the user into it.
 * Returns 0, -ENOTDIR, -EPERM (it is another user's), or another -errno.
 */
int worker_dir_make(const char *dir, const struct spawn_user *user);

/* Writes the path of a worker's socket. */
void worker_dir_path(const char *dir, const struct worker_name *name, char path[WORKER_PATH_MAX]);

/* Reads the name of a file in the folder; false where it is none of a worker's socket. */
bool worker_dir_parse(const char *file, struct worker_name *ret_name);

/*
 * Binds a socket that only the user can dial, and listens; its file appears at once with all that.
 * *name: its serial is raised until there is no such file.
 * Returns the descriptor (close-on-exec, the caller's) or -errno.
 */
int worker_dir_bind(const char *dir, struct worker_name *name, const struct spawn_user *user);

/* Replaces `pids` as a whole. Returns 0 or -errno. */
int worker_dir_write(const char *dir, const struct worker_dir_process *processes, size_t n);

/*
 * Reads `pids`. Returns how many there are, at most `max`, or -errno. What is not a line of ours is
 * passed over, as is what is of another run of the system.
 */
ssize_t worker_dir_read(const char *dir, struct worker_dir_process *ret_processes, size_t max);

/* Unlinks the sockets that no process listens on. */
void worker_dir_sweep(const char *dir);
