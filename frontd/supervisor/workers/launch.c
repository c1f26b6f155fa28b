#include "frontd/supervisor/workers/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

enum { LISTEN_FD = 3 };

/* Variables that say something of us, not of the worker; and with them those of another user. */
static const char *const without[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
    "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", NULL};
static const char *const without_user[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
    "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "MAINPID", "USER", "LOGNAME", "HOME", NULL};

/* What the worker finds in its environment. */
struct variables {
    char texts[6][256];
    char *all[6];
    size_t n;
    char *pid; /* of LISTEN_PID */
};

static void make_variables(const struct launch *launch, struct variables *variables)
{
    const struct spawn_user *user = launch->user;
    char(*texts)[256] = variables->texts;
    variables->n = user->name[0] == '\0' ? 3 : ARRAY_LEN(variables->all);
    snprintf(texts[0], sizeof(texts[0]), "LISTEN_FDS=1");
    snprintf(texts[1], sizeof(texts[1]), "LISTEN_FDNAMES=%s", launch->pool);
    int length = snprintf(texts[2], sizeof(texts[2]), "LISTEN_PID=");
    snprintf(texts[3], sizeof(texts[3]), "USER=%s", user->name);
    snprintf(texts[4], sizeof(texts[4]), "LOGNAME=%s", user->name);
    snprintf(texts[5], sizeof(texts[5]), "HOME=%s", user->home);
    for (size_t i = 0; i < variables->n; i++)
        variables->all[i] = texts[i];
    variables->pid = texts[2] + length;
}

/* Makes the pipe for its output, which it can also open as /dev/stderr. 0 or -errno. */
static int make_pipe(const struct spawn_user *user, int ret_ends[2])
{
    if (pipe2(ret_ends, O_CLOEXEC) < 0)
        return -errno;
    if (fcntl(ret_ends[0], F_SETFL, O_NONBLOCK) == 0 &&
        (user->name[0] == '\0' || fchown(ret_ends[1], user->uid, (gid_t)-1) == 0))
        return 0;
    int r = -errno;
    close(ret_ends[0]);
    close(ret_ends[1]);
    return r;
}

int launch_start(const struct launch *launch, pid_t *ret_pid, int *ret_output)
{
    struct variables variables;
    int ends[2];
    int r = make_pipe(launch->user, ends);
    if (r < 0)
        return r;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    r = null < 0 ? -errno : 0;
    /* The flag belongs to the socket, and a process before this one may have set it. */
    if (r == 0)
        fcntl(launch->listener, F_SETFL, fcntl(launch->listener, F_GETFL) & ~O_NONBLOCK);
    if (r == 0) {
        make_variables(launch, &variables);
        const struct spawn spawn = {
            .path = launch->path,
            .words = launch->command,
            .n = launch->n,
            .fds = {null, ends[1], ends[1], launch->listener},
            .nfds = LISTEN_FD + 1,
            .without = launch->user->name[0] == '\0' ? without : without_user,
            .with = variables.all,
            .nwith = variables.n,
            .pid_text = variables.pid,
            .user = launch->user,
            .privileges = SPAWN_UNPRIVILEGED,
            .leads = true,
            .unignores = true,
            .told = launch->path,
        };
        r = spawn_start(&spawn, ret_pid);
    }
    if (null >= 0)
        close(null);
    close(ends[1]);
    if (r == 0)
        *ret_output = ends[0];
    else
        close(ends[0]);
    return r;
}

int launch_signal(pid_t pid, int number)
{
    if (kill(-pid, number) == 0)
        return 0;
    /* One that has not come to setsid() yet, or that a program before this one has started. */
    return errno == ESRCH && kill(pid, number) == 0 ? 0 : -errno;
}
