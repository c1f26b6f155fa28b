/*
 * probe_open() connects; the socket listens before its worker runs, so that succeeds at once, and
 * the front's HELLO is written. on_readable() waits for the worker's HELLO, says GOAWAY, and calls
 * ready(). Whatever goes wrong (no room in the backlog, the worker closes or says something else),
 * all of it is tried again a little later.
 *
 * To the worker this is a front of its own: its `instance` is not that of our shards, so that
 * nothing that is meant for their connections comes here.
 */

#include "frontd/supervisor/workers/readiness.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/random.h"
#include "frontd/system/loop.h"
#include "proto/frame.h"
#include "proto/hello.h"

enum {
    RETRY_MS = 200,
    HELLO_MAX = 256 * 1024, /* bytes that a worker's HELLO may have: 256 methods fit many times */
};

static void try(struct probe *probe);

static void on_retry(uv_timer_t *timer)
{
    try(timer->data);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct probe *probe = handle->data;
    if (--probe->open == 0)
        mem_free(probe);
}

/* A socket's handle cannot be used again before its close has come back. */
static void on_socket_closed(uv_handle_t *handle)
{
    struct probe *probe = handle->data;
    close(probe->fd);
    probe->fd = -1;
    on_handle_closed(handle);
}

static void drop_socket(struct probe *probe)
{
    buf_deinit(&probe->in);
    if (probe->fd >= 0 && !uv_is_closing((uv_handle_t *)&probe->poll))
        uv_close((uv_handle_t *)&probe->poll, on_socket_closed);
}

static void try_later(struct probe *probe, const char *wrong)
{
    probe->wrong = wrong;
    drop_socket(probe);
    CHECK(uv_timer_start(&probe->retry, on_retry, RETRY_MS, 0) == 0);
}

static int append_frame(struct buf *out, enum frame_type type, const struct buf *body)
{
    uint8_t bytes[FRAME_HEAD_SIZE];
    struct frame_head head = {.length = (uint32_t)buf_len(body), .type = (uint8_t)type};
    frame_head_write(&head, bytes);
    int r = buf_append(out, bytes, sizeof(bytes));
    return r < 0 ? r : buf_append(out, buf_data(body), buf_len(body));
}

static int make_hello(const char *pool, struct buf *out)
{
    enum { INSTANCE_BYTES = 16 };
    char instance[2 * INSTANCE_BYTES + 1];
    struct buf body = {0};
    random_hex(instance, INSTANCE_BYTES);
    struct hello_front hello = {
        .instance = instance, .pool = pool, .shards = 1, .max_frame = FRAME_MAX_DEFAULT};
    int r = hello_front_write(&body, &hello);
    if (r == 0)
        r = append_frame(out, FRAME_HELLO, &body);
    buf_deinit(&body);
    return r;
}

/* The worker sees a front that leaves. Without this it sees one that is gone, which is as good. */
static void say_goaway(struct probe *probe)
{
    struct buf body = {0};
    struct buf out = {0};
    if (goaway_write(&body, "was only asking", -1) == 0 &&
        append_frame(&out, FRAME_GOAWAY, &body) == 0)
        send(probe->fd, buf_data(&out), buf_len(&out), MSG_NOSIGNAL);
    buf_deinit(&body);
    buf_deinit(&out);
}

/* Returns NULL with *ret_ready, or what is wrong. */
static const char *judge(struct probe *probe, bool *ret_ready)
{
    struct frame frame;
    size_t used;
    int r = frame_read(buf_data(&probe->in), buf_len(&probe->in), HELLO_MAX, &frame, &used);
    *ret_ready = false;
    const char *guess = r == 0 ? NULL : frame_guess(buf_data(&probe->in), buf_len(&probe->in));
    if (guess != NULL)
        return guess;
    if (r == FRAME_E_MORE)
        return NULL;
    if (r != 0)
        return frame_error_text(r);
    if (frame.head.type == FRAME_GOAWAY)
        return "it answers HELLO with GOAWAY";
    struct hello_worker hello = {0};
    if (frame.head.type != FRAME_HELLO)
        return "its first frame is not HELLO";
    r = hello_worker_read(frame.body, &hello);
    if (r != 0)
        return r == HELLO_E_VERSION ? "it speaks another version of the protocol"
                                    : "its HELLO cannot be read";
    hello_worker_deinit(&hello);
    *ret_ready = true;
    return NULL;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct probe *probe = poll->data;
    char *room = buf_room(&probe->in, 4096);
    if (room == NULL || status < 0) {
        try_later(probe, room == NULL ? "no memory" : "its channel fails");
        return;
    }
    ssize_t n = read(probe->fd, room, 4096);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        try_later(probe, "it closes the channel instead of HELLO");
        return;
    }
    buf_added(&probe->in, (size_t)n);
    bool ready;
    const char *wrong = judge(probe, &ready);
    if (wrong != NULL) {
        try_later(probe, wrong);
    } else if (ready) {
        say_goaway(probe);
        drop_socket(probe);
        probe->ready(probe->data);
    }
}

static const char *dial(struct probe *probe)
{
    struct buf hello = {0};
    if (connect(probe->fd, (struct sockaddr *)&probe->address, sizeof(probe->address)) < 0)
        return errno == EAGAIN ? "its backlog is full" : "its socket cannot be dialled";
    int r = make_hello(probe->pool, &hello);
    /* A socket that is new has room for it. */
    if (r == 0 && send(probe->fd, buf_data(&hello), buf_len(&hello), MSG_NOSIGNAL) !=
                      (ssize_t)buf_len(&hello))
        r = -EPIPE;
    buf_deinit(&hello);
    return r < 0 ? "HELLO cannot be sent" : NULL;
}

static void try(struct probe *probe)
{
    if (probe->fd >= 0) { /* the last one has not come back from its close */
        try_later(probe, probe->wrong);
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || loop_poll_init(probe->retry.loop, &probe->poll, fd) < 0) {
        if (fd >= 0)
            close(fd);
        try_later(probe, "there is no descriptor to dial it with");
        return;
    }
    probe->fd = fd;
    probe->open++;
    probe->poll.data = probe;
    const char *wrong = dial(probe);
    if (wrong != NULL) {
        try_later(probe, wrong);
        return;
    }
    probe->wrong = "it does not answer";
    CHECK(uv_poll_start(&probe->poll, UV_READABLE, on_readable) == 0);
}

int probe_open(uv_loop_t *loop, const char *path, const char *pool, void (*ready)(void *data),
    void *data, struct probe **ret_probe)
{
    struct probe *probe = mem_zalloc(sizeof(*probe));
    if (probe == NULL)
        return -ENOMEM;
    CHECK(strlen(path) < sizeof(probe->address.sun_path));
    probe->address.sun_family = AF_UNIX;
    memcpy(probe->address.sun_path, path, strlen(path));
    probe->pool = pool;
    probe->ready = ready;
    probe->data = data;
    probe->fd = -1;
    CHECK(uv_timer_init(loop, &probe->retry) == 0);
    probe->retry.data = probe;
    probe->open = 1;
    try(probe);
    *ret_probe = probe;
    return 0;
}

const char *probe_wrong(const struct probe *probe)
{
    return probe->wrong == NULL ? "it does not answer" : probe->wrong;
}

void probe_close(struct probe *probe)
{
    if (probe == NULL)
        return;
    drop_socket(probe);
    uv_close((uv_handle_t *)&probe->retry, on_handle_closed);
}
