#include "frontd/supervisor/config_check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/supervisor/sd_notify.h"
#include "frontd/system/loop.h"
#include "frontd/system/spawn.h"

enum { READS_MAX = 64 /* of 4 KiB: more than a pipe holds */ };

void config_check_init(struct config_check *check)
{
    *check = (struct config_check){.fd = -1, .pid = -1};
}

/* Keeps text of the output; what does not fit is dropped. */
static void keep(struct config_check *check, const char *bytes, size_t n)
{
    size_t room = MIN(n, CONFIG_CHECK_TEXT_MAX - check->n);
    memcpy(check->text + check->n, bytes, room);
    check->n += room;
}

/* Judges a line that is complete, or will not be continued. Returns whether it is text. */
static bool end_line(struct config_check *check)
{
    struct span line = {check->line, check->line_len};
    enum identity identity = check->line_long
                                 ? IDENTITY_UNKNOWN
                                 : identity_read(line, check->token, check->pid, STATE_VERSION);
    if (identity == IDENTITY_UNKNOWN)
        keep(check, line.p, line.n);
    else
        check->identity = identity;
    check->line_len = 0;
    check->line_long = false;
    return identity == IDENTITY_UNKNOWN;
}

/*
 * Takes output. The proof may be in any line: a script may say something before it executes
 * frontd.
 */
static void take(struct config_check *check, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\n') {
            if (end_line(check))
                keep(check, "\n", 1);
        } else if (check->line_long) {
            keep(check, bytes + i, 1);
        } else if (check->line_len == sizeof(check->line)) {
            keep(check, check->line, check->line_len);
            keep(check, bytes + i, 1);
            check->line_len = 0;
            check->line_long = true;
        } else {
            check->line[check->line_len++] = bytes[i];
        }
    }
}

/* Reads output once; returns what read() did. */
static ssize_t read_some(struct config_check *check)
{
    char bytes[4096];
    ssize_t n = read(check->fd, bytes, sizeof(bytes));
    take(check, bytes, (size_t)MAX(n, (ssize_t)0));
    return n;
}

static void on_check_output(uv_poll_t *poll, int status, int events)
{
    (void)events;
    ssize_t n = read_some(poll->data);
    if (status < 0 || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        uv_poll_stop(poll); /* it has closed it */
}

static void on_check_output_closed(uv_handle_t *handle)
{
    mem_free(handle);
}

/*
 * Watches the output. The handle has memory of its own: libuv may be done with it only after the
 * next check has begun.
 */
static int watch(struct config_check *check, uv_loop_t *loop, int fd)
{
    uv_poll_t *output = mem_zalloc(sizeof(*output));
    int r = output == NULL ? -ENOMEM : loop_poll_init(loop, output, fd);
    if (r < 0) {
        mem_free(output);
        close(fd);
        return r;
    }
    output->data = check;
    check->output = output;
    check->fd = fd;
    r = uv_poll_start(output, UV_READABLE, on_check_output);
    if (r < 0)
        config_check_ended(check);
    return r;
}

int config_check_start(
    struct config_check *check, uv_loop_t *loop, const char *exe, const char *conf_name)
{
    int ends[2];
    char *words[] = {(char *)(uintptr_t)exe, (char[]){"--check"}, (char[]){"-c"},
        (char *)(uintptr_t)conf_name, (char[]){"--identify"}, check->token};
    config_check_init(check);
    identity_make_token(check->token);
    if (stat(exe, &check->file) < 0)
        check->file = (struct stat){0}; /* execv() says why */
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int r = watch(check, loop, ends[0]); /* which makes this end non-blocking */
    if (r < 0) {
        close(ends[1]);
        return r;
    }
    const struct spawn spawn = {
        .path = exe,
        .words = words,
        .n = ARRAY_LEN(words),
        .fds = {-1, ends[1], ends[1]},
        .nfds = STDERR_FILENO + 1,
        .without = sd_notify_variables,
        .privileges = SPAWN_GAINS_NONE,
        .told = "it",
    };
    r = spawn_start(&spawn, &check->pid);
    close(ends[1]);
    if (r < 0)
        config_check_ended(check);
    return r;
}

void config_check_ended(struct config_check *check)
{
    /* What its own children write for ever is not waited for. */
    for (int i = 0; i < READS_MAX && read_some(check) > 0; i++)
        ;
    end_line(check);
    uv_close((uv_handle_t *)check->output, on_check_output_closed);
    close(check->fd);
    check->output = NULL;
    check->fd = -1;
    check->pid = -1;
    while (check->n > 0 && check->text[check->n - 1] == '\n')
        check->n--;
    check->text[check->n] = '\0';
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool config_check_is_current(const struct config_check *check, const char *exe)
{
    const struct stat *before = &check->file;
    struct stat now;
    return stat(exe, &now) == 0 && now.st_dev == before->st_dev && now.st_ino == before->st_ino &&
           now.st_size == before->st_size && same_time(now.st_mtim, before->st_mtim) &&
           same_time(now.st_ctim, before->st_ctim);
}

void config_check_kill(struct config_check *check)
{
    if (check->pid > 0)
        kill(check->pid, SIGKILL);
}
