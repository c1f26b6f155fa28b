/*
 * readiness_open() connects; the socket listens before its worker runs, so that succeeds at once,
 * and the front's HELLO is written. on_answer_readable() waits for the worker's HELLO, says GOAWAY,
 * and calls ready(). Whatever goes wrong (no room in the backlog, the worker closes or says
 * something else), all of it is tried again a little later.
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

static void dial_worker(struct readiness *readiness);

static void on_retry(uv_timer_t *timer)
{
    dial_worker(timer->data);
}

static void on_readiness_closed(uv_handle_t *handle)
{
    struct readiness *readiness = handle->data;
    if (--readiness->open == 0)
        mem_free(readiness);
}

/* Only now the socket's handle can be used again. */
static void on_socket_closed(uv_handle_t *handle)
{
    struct readiness *readiness = handle->data;
    close(readiness->fd);
    readiness->fd = -1;
    on_readiness_closed(handle);
}

static void drop_socket(struct readiness *readiness)
{
    buf_deinit(&readiness->in);
    if (readiness->fd >= 0 && !uv_is_closing((uv_handle_t *)&readiness->poll))
        uv_close((uv_handle_t *)&readiness->poll, on_socket_closed);
}

static void try_later(struct readiness *readiness, const char *wrong)
{
    readiness->wrong = wrong;
    drop_socket(readiness);
    CHECK(uv_timer_start(&readiness->retry, on_retry, RETRY_MS, 0) == 0);
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

/*
 * Takes leave of the worker. Where that fails, the worker sees a front that is gone, which is as
 * good.
 */
static void say_goaway(struct readiness *readiness)
{
    struct buf body = {0};
    struct buf out = {0};
    if (goaway_write(&body, "was only asking", -1) == 0 &&
        append_frame(&out, FRAME_GOAWAY, &body) == 0)
        send(readiness->fd, buf_data(&out), buf_len(&out), MSG_NOSIGNAL);
    buf_deinit(&body);
    buf_deinit(&out);
}

/* Looks at what the worker has sent. Returns NULL with *ret_ready, or what is wrong. */
static const char *judge(struct readiness *readiness, bool *ret_ready)
{
    struct frame frame;
    size_t used;
    int r = frame_read(buf_data(&readiness->in), buf_len(&readiness->in), HELLO_MAX, &frame, &used);
    *ret_ready = false;
    const char *guess = r == 0 ? NULL
                               : frame_guess(buf_data(&readiness->in), buf_len(&readiness->in));
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

static void on_answer_readable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct readiness *readiness = poll->data;
    char *room = buf_room(&readiness->in, 4096);
    if (room == NULL || status < 0) {
        try_later(readiness, room == NULL ? "no memory" : "its channel fails");
        return;
    }
    ssize_t n = read(readiness->fd, room, 4096);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        try_later(readiness, "it closes the channel instead of HELLO");
        return;
    }
    buf_added(&readiness->in, (size_t)n);
    bool ready;
    const char *wrong = judge(readiness, &ready);
    if (wrong != NULL) {
        try_later(readiness, wrong);
    } else if (ready) {
        say_goaway(readiness);
        drop_socket(readiness);
        readiness->ready(readiness->data);
    }
}

static const char *dial(struct readiness *readiness)
{
    struct buf hello = {0};
    if (connect(readiness->fd, (struct sockaddr *)&readiness->address, sizeof(readiness->address)) <
        0)
        return errno == EAGAIN ? "its backlog is full" : "its socket cannot be dialled";
    int r = make_hello(readiness->pool, &hello);
    /* A socket that is new has room for it. */
    if (r == 0 && send(readiness->fd, buf_data(&hello), buf_len(&hello), MSG_NOSIGNAL) !=
                      (ssize_t)buf_len(&hello))
        r = -EPIPE;
    buf_deinit(&hello);
    return r < 0 ? "HELLO cannot be sent" : NULL;
}

static void dial_worker(struct readiness *readiness)
{
    if (readiness->fd >= 0) { /* the last one has not come back from its close */
        try_later(readiness, readiness->wrong);
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || loop_poll_init(readiness->retry.loop, &readiness->poll, fd) < 0) {
        if (fd >= 0)
            close(fd);
        try_later(readiness, "there is no descriptor to dial it with");
        return;
    }
    readiness->fd = fd;
    readiness->open++;
    readiness->poll.data = readiness;
    const char *wrong = dial(readiness);
    if (wrong != NULL) {
        try_later(readiness, wrong);
        return;
    }
    readiness->wrong = "it does not answer";
    CHECK(uv_poll_start(&readiness->poll, UV_READABLE, on_answer_readable) == 0);
}

int readiness_open(uv_loop_t *loop, const char *path, const char *pool, void (*ready)(void *data),
    void *data, struct readiness **ret_readiness)
{
    struct readiness *readiness = mem_zalloc(sizeof(*readiness));
    if (readiness == NULL)
        return -ENOMEM;
    CHECK(strlen(path) < sizeof(readiness->address.sun_path));
    readiness->address.sun_family = AF_UNIX;
    memcpy(readiness->address.sun_path, path, strlen(path));
    readiness->pool = pool;
    readiness->ready = ready;
    readiness->data = data;
    readiness->fd = -1;
    CHECK(uv_timer_init(loop, &readiness->retry) == 0);
    readiness->retry.data = readiness;
    readiness->open = 1;
    dial_worker(readiness);
    *ret_readiness = readiness;
    return 0;
}

const char *readiness_wrong(const struct readiness *readiness)
{
    return readiness->wrong == NULL ? "it does not answer" : readiness->wrong;
}

void readiness_close(struct readiness *readiness)
{
    if (readiness == NULL)
        return;
    drop_socket(readiness);
    uv_close((uv_handle_t *)&readiness->retry, on_readiness_closed);
}
