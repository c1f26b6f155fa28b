#include "frontd/system/discard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

enum { GONE_LOOKS = 400 /* 50 us apart, so that a close() that waits costs 20 ms at most */ };

/*
 * In the new process, which has a copy of our memory: nothing but system calls. It shares our
 * descriptors, which is what no other process of ours does (spawn.h).
 */
_Noreturn static void close_all(const int *fds, size_t n)
{
    syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (size_t i = 0; i < n; i++)
        syscall(SYS_close, fds[i]);
    for (;;)
        syscall(SYS_exit_group, 0);
}

/*
 * A process that is spawned meanwhile has a copy of what is in the table still; its execve() would
 * be what waits. A descriptor leaves the table as soon as its close() has begun.
 */
static void wait_until_gone(int fd)
{
    const struct timespec moment = {.tv_nsec = 50 * 1000};
    for (int i = 0; i < GONE_LOOKS && fcntl(fd, F_GETFD) >= 0; i++)
        nanosleep(&moment, NULL);
}

void discard(const int *fds, size_t n, unsigned wait_ms)
{
    if (n == 0)
        return;
    long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        close_all(fds, n);
    if (pid < 0) {
        log_warning("descriptors of a shard stay open: %s", strerror(errno));
        return;
    }
    wait_until_gone(fds[n - 1]);
    struct pollfd end = {.fd = pidfd_open((pid_t)pid, 0), .events = POLLIN};
    if (end.fd < 0)
        return;
    if (wait_ms > 0 && poll(&end, 1, (int)wait_ms) > 0)
        waitpid((pid_t)pid, NULL, 0);
    close(end.fd);
}
