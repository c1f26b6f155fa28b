"""A clock that goes SPEED times as fast, for times that are fixed and long: a library that is loaded
before the program multiplies clock_gettime() and divides what epoll waits. Not with ASan, which must be
the first library that is loaded."""
import os
import shutil
import subprocess

SPEED = 30
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(clock, ts);
    if (r == 0 && clock != CLOCK_REALTIME) {
        __int128 ns = ((__int128)ts->tv_sec * 1000000000 + ts->tv_nsec) * SPEED;
        ts->tv_sec = (time_t)(ns / 1000000000);
        ts->tv_nsec = (long)(ns % 1000000000);
    }
    return r;
}

static int shorter(int timeout)
{
    return timeout <= 0 ? timeout : (timeout + SPEED - 1) / SPEED;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "epoll_wait");
    return real(fd, events, n, shorter(timeout));
}

int epoll_pwait(int fd, struct epoll_event *events, int n, int timeout, const sigset_t *mask)
{
    static int (*real)(int, struct epoll_event *, int, int, const sigset_t *);
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "epoll_pwait");
    return real(fd, events, n, shorter(timeout), mask);
}
"""


class Clock:
    """Programs that are started in its context have that clock."""

    def __init__(self, folder):
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        source, self.library = os.path.join(folder, "clock.c"), os.path.join(folder, "clock.so")
        with open(source, "w") as file:
            file.write(CLOCK)
        subprocess.run([compiler, "-shared", "-fPIC", "-O", "-DSPEED=%d" % SPEED, "-o", self.library, source,
                        "-ldl"], check=True)

    def __enter__(self):
        os.environ["LD_PRELOAD"] = self.library
        return self

    def __exit__(self, *_):
        del os.environ["LD_PRELOAD"]
