#pragma once

/* Starts a worker's process, with its listening socket and nothing else of ours. */

#include "frontd/system/spawn.h"

struct launch {
    const char *path;
    char *const *command; /* n words, the program's name first */
    size_t n;
    const struct spawn_user *user;
    const char *pool; /* for LISTEN_FDNAMES */
    int listener;     /* becomes descriptor 3, and blocking */
};

/*
 * Starts it. Its standard input is /dev/null, output and error are one pipe; signals are as after
 * a login; the working directory is ours. It leads a session and a process group of its own,
 * without a terminal: what a terminal sends to our group does not reach it, and what it starts can
 * be signalled with it (launch_signal()). It has no capability and can get none (privileges.h),
 * root or not. The listener is borrowed. What fails in the new process
 * is written to its standard error, and its status is 127 then.
 * Returns 0 with *ret_pid and *ret_output (the pipe: close-on-exec, non-blocking, the caller's), or
 * -errno.
 */
int launch_start(const struct launch *launch, pid_t *ret_pid, int *ret_output);

/*
 * Sends a signal to the process group that a worker leads, or to the worker alone where it leads
 * none. pid: of the worker, which may have ended only as long as its group is known to have
 * members. Returns 0, -ESRCH where there is no such process, or another -errno.
 */
int launch_signal(pid_t pid, int number);
