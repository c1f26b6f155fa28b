#include "frontd/supervisor/workers/strays.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/system/process.h"

enum { LOOK_MS = 20, LOGGED_MAX = 10 };

void strays_collect(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* Reaps those that have ended; returns whether there is any other child, a stray or not. */
static bool any_children(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid == 0;
}

/*
 * Each stray gets the signal (0: none); returns how many there are. Workers have sessions of their
 * own, and so has what they leave: children of our session are others'. The number of a child is
 * that of no other process, since only this one reaps it.
 */
static unsigned signal_all(int number, unsigned *logged)
{
    DIR *folder = any_children() ? opendir("/proc") : NULL;
    const struct dirent *entry;
    unsigned count = 0;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        struct process_stat stat;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || !process_stat(pid, &stat) || stat.parent != getpid() || stat.zombie ||
            stat.session == getsid(0))
            continue;
        count++;
        if (number == 0)
            continue;
        if ((*logged)++ < LOGGED_MAX)
            log_warning("process %ld (%s), which a worker has left behind: %s it", (long)pid,
                stat.name, number == SIGKILL ? "killing" : "ending");
        kill(pid, number);
    }
    if (folder != NULL)
        closedir(folder);
    return count;
}

void strays_end(bool at_once)
{
    static const struct timespec pause = {.tv_nsec = LOOK_MS * 1000 * 1000};
    uint64_t begun = log_clock();
    unsigned logged = 0;
    bool kills = at_once;
    unsigned left = signal_all(kills ? SIGKILL : SIGTERM, &logged);
    for (uint64_t now = begun; left > 0 && now - begun < STRAYS_MS; now = log_clock()) {
        nanosleep(&pause, NULL);
        if (!kills && now - begun >= STRAYS_ASKED_MS) {
            kills = true;
            logged = 0;
        }
        /* Again and again: children of one that has ended become ours. */
        left = signal_all(kills ? SIGKILL : 0, &logged);
    }
    if (left > 0)
        log_error("%u processes that workers have left behind do not end", left);
}
