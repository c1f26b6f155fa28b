#include "frontd/super/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

void check_init(struct check *check)
{
    *check = (struct check){.fd = -1, .pid = -1};
}

/* In the forked child. Only async-signal-safe calls. */
static void become_check(int output, const char *exe, char *const argv[])
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    close_range(STDERR_FILENO + 1, ~0U, 0);
    execv(exe, argv);
    static const char text[] = "cannot execute it: ";
    const char *why = strerrordesc_np(errno);
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)!write(STDERR_FILENO, why, strlen(why));
    _exit(127);
}

static void read_output(struct check *check)
{
    char rest[256];
    for (;;) {
        bool keep = check->n < CHECK_TEXT_MAX;
        ssize_t n = keep ? read(check->fd, check->text + check->n, CHECK_TEXT_MAX - check->n)
                         : read(check->fd, rest, sizeof(rest));
        if (n <= 0)
            return;
        if (keep)
            check->n += (size_t)n;
    }
}

static void on_output(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct check *check = poll->data;
    size_t before = check->n;
    read_output(check);
    if (status < 0 || (check->n == before && check->n < CHECK_TEXT_MAX))
        uv_poll_stop(poll); /* it has closed it */
}

int check_start(struct check *check, uv_loop_t *loop, const char *exe, const char *conf_name)
{
    int ends[2];
    char *argv[] = {(char *)(uintptr_t)exe, (char[]){"--check"}, (char[]){"-c"},
        (char *)(uintptr_t)conf_name, NULL};
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    check_init(check);
    int r = uv_poll_init(loop, &check->output, ends[0]);
    if (r < 0) {
        close(ends[0]);
        close(ends[1]);
        return r;
    }
    check->fd = ends[0];
    check->output.data = check;
    pid_t pid = fork();
    if (pid == 0)
        become_check(ends[1], exe, argv);
    r = pid < 0 ? -errno : uv_poll_start(&check->output, UV_READABLE, on_output);
    close(ends[1]);
    if (r < 0) {
        check_ended(check);
        return r;
    }
    check->pid = pid;
    return 0;
}

void check_ended(struct check *check)
{
    read_output(check);
    uv_close((uv_handle_t *)&check->output, NULL);
    close(check->fd);
    check->fd = -1;
    check->pid = -1;
    while (check->n > 0 && check->text[check->n - 1] == '\n')
        check->n--;
    check->text[check->n] = '\0';
}

void check_kill(struct check *check)
{
    if (check->pid > 0)
        kill(check->pid, SIGKILL);
}
