#include "frontd/supervisor/methods/dry_run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/supervisor/methods/foresight.h"
#include "frontd/supervisor/methods/methods.h"
#include "frontd/system/loop.h"
#include "frontd/system/spawn.h"
#include "proto/errors.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"

enum { ANSWER_MAX = 1024 * 1024, READ_BYTES = 16 * 1024 };

enum { CONF_FD = 3 /* in the child, which has no other descriptors of this process */ };

struct dry_run {
    struct control_call *call; /* NULL: it wants no answer any more */
    uv_poll_t output;
    uv_timer_t limit;
    int fd;
    int pidfd;
    unsigned handles;
    struct buf text;
};

/* Of the process that calls spawn_start(), for its child. */
static struct supervisor *subject;

static void foresee(void)
{
    foresight_write(subject, CONF_FD, STDOUT_FILENO);
}

static void on_closed(uv_handle_t *handle)
{
    struct dry_run *dry_run = handle->data;
    if (--dry_run->handles > 0)
        return;
    close(dry_run->fd);
    if (dry_run->pidfd >= 0)
        close(dry_run->pidfd);
    buf_deinit(&dry_run->text);
    mem_free(dry_run);
}

/* The child may still be there: it is reaped like any other. */
static void end(struct dry_run *dry_run)
{
    if (dry_run->pidfd >= 0)
        pidfd_send_signal(dry_run->pidfd, SIGKILL, NULL, 0);
    uv_close((uv_handle_t *)&dry_run->output, on_closed);
    uv_close((uv_handle_t *)&dry_run->limit, on_closed);
}

static void answer(struct dry_run *dry_run, const char *wrong)
{
    struct control_call *call = dry_run->call;
    struct span text = {buf_data(&dry_run->text), buf_len(&dry_run->text)};
    call->gone = NULL;
    bool valid = wrong == NULL && text.n > 0 && jsonrpc_validate(text.p, text.n) == 0;
    char *reason = NULL;
    if (valid && json_read_string(json_read_member(text, "error"), &reason) == 0) {
        control_call_fail(call, CONTROL_E_FAILED, "%s", reason);
    } else if (valid) {
        struct json_writer out = {0};
        json_add_raw(&out, NULL, text);
        control_call_answer(call, &out);
    } else {
        control_call_fail(call, CONTROL_E_FAILED, "%s",
            wrong == NULL ? "the process that reads the config has ended before it was done"
                          : wrong);
    }
    mem_free(reason);
    end(dry_run);
}

static void on_output(uv_poll_t *poll, int status, int events)
{
    struct dry_run *dry_run = poll->data;
    (void)events;
    char *room = buf_room(&dry_run->text, READ_BYTES);
    ssize_t n = room == NULL || status < 0 ? 0 : read(dry_run->fd, room, READ_BYTES);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0 && buf_len(&dry_run->text) + (size_t)n <= ANSWER_MAX)
        buf_added(&dry_run->text, (size_t)n);
    else
        answer(dry_run, n > 0 ? "the answer would be too long" : NULL);
}

static void on_limit(uv_timer_t *timer)
{
    answer(timer->data, "the config cannot be read in time");
}

static void on_gone(struct control_call *call)
{
    end(call->data);
}

static int start_child(struct supervisor *supervisor, int *ret_fd, int *ret_pidfd)
{
    int ends[2];
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    fcntl(ends[1], F_SETFL, 0); /* the child waits for this process to read */
    int conf_fd = front_serving(&supervisor->front)->conf_fd;
    const struct spawn spawn = {
        .run = foresee, .fds = {-1, ends[1], -1, conf_fd}, .nfds = CONF_FD + 1};
    subject = supervisor;
    int r = spawn_start(&spawn, &pid);
    close(ends[1]);
    if (r < 0) {
        close(ends[0]);
        return r;
    }
    *ret_fd = ends[0];
    *ret_pidfd = pidfd_open(pid, 0); /* nothing has waited for it yet */
    return 0;
}

void dry_run_start(struct control_call *call)
{
    struct supervisor *supervisor = methods_supervisor(call);
    uv_loop_t *loop = &supervisor->front.loop;
    struct dry_run *dry_run = mem_zalloc(sizeof(*dry_run));
    int r = dry_run == NULL ? -ENOMEM : start_child(supervisor, &dry_run->fd, &dry_run->pidfd);
    if (r == 0 && loop_poll_init(loop, &dry_run->output, dry_run->fd) < 0) {
        close(dry_run->fd); /* the child cannot write any more, and ends */
        if (dry_run->pidfd >= 0)
            close(dry_run->pidfd);
        r = -ENOMEM;
    }
    if (r < 0) {
        mem_free(dry_run);
        control_call_fail(call, RPC_INTERNAL_ERROR, "cannot look at the config: %s", strerror(-r));
        return;
    }
    CHECK(uv_timer_init(loop, &dry_run->limit) == 0);
    dry_run->handles = 2;
    dry_run->call = call;
    dry_run->output.data = dry_run->limit.data = dry_run;
    call->data = dry_run;
    call->gone = on_gone;
    CHECK(uv_timer_start(&dry_run->limit, on_limit, RELOAD_CHECK_MS, 0) == 0);
    CHECK(uv_poll_start(&dry_run->output, UV_READABLE, on_output) == 0);
}
