/*
 * on_poll() -> receive(): one read into the loop's buffer -> split(): every whole frame is given to
 * `frame`, an incomplete one is copied aside -> what that makes gathers in `out` -> framed_write(),
 * which the owner calls once a turn.
 *
 * Where over FRAMED_OUT_MAX wait to be written, reading pauses, until the owner has written half of
 * it and calls framed_resume(). Ends: `failed`, `ended` and `no_frame` tell the owner, and it is
 * framed_close() alone that closes.
 */

#include "workerd/framed.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workerd/worker.h"

void framed_set_full(struct framed *framed, bool full)
{
    if (LIKELY(full == framed->full))
        return;
    framed->full = full;
    if (full)
        atomic_fetch_add(&framed->worker->nfull, 1);
    else
        atomic_fetch_sub(&framed->worker->nfull, 1);
}

static void on_poll(uv_poll_t *poll, int status, int events);

void framed_wait(struct framed *framed)
{
    int events = (framed->paused || framed->ended ? 0 : UV_READABLE);
    if (buf_len(&framed->out) > 0)
        events |= UV_WRITABLE;
    if (events == framed->events)
        return;
    framed->events = events;
    if (events == 0)
        uv_poll_stop(&framed->poll);
    else
        CHECK(uv_poll_start(&framed->poll, events, on_poll) == 0);
}

int framed_write(struct framed *framed)
{
    while (buf_len(&framed->out) > 0) {
        ssize_t n = send(framed->fd, buf_data(&framed->out), buf_len(&framed->out), MSG_NOSIGNAL);
        if (n >= 0) {
            buf_consume(&framed->out, (size_t)n);
            framed->wrote = uv_now(&framed->worker->loop);
            framed_set_full(framed, !framed_has_half(framed));
            continue;
        }
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
    }
    return 0;
}

char *framed_frame(struct framed *framed, const struct frame_head *head)
{
    char *room = buf_room(&framed->out, FRAME_HEAD_SIZE + (size_t)head->length);
    if (room == NULL)
        return NULL;
    frame_head_write(head, (uint8_t *)room);
    buf_added(&framed->out, FRAME_HEAD_SIZE + (size_t)head->length);
    framed_set_full(framed, !framed_has_half(framed));
    return room + FRAME_HEAD_SIZE;
}

int framed_append(struct framed *framed, const struct buf *frames)
{
    int r = buf_append(&framed->out, buf_data(frames), buf_len(frames));
    if (r == 0)
        framed_set_full(framed, !framed_has_half(framed));
    return r;
}

/* Puts bytes aside until a frame is complete, or reading goes on. Returns 0 or -ENOMEM. */
static int put_aside(struct framed *framed, const char *p, size_t n)
{
    int r = buf_append(&framed->in, p, n);
    if (r < 0)
        framed->ops->failed(framed, FRAMED_MEMORY, r);
    return r;
}

/* Writes where too much waits. Returns whether no more frames may be taken now. */
static bool is_full(struct framed *framed)
{
    if (LIKELY(buf_len(&framed->out) <= FRAMED_OUT_MAX))
        return false;
    int r = framed_write(framed);
    if (r < 0) {
        framed->ops->failed(framed, FRAMED_WRITING, r);
    } else if (buf_len(&framed->out) > FRAMED_OUT_MAX) {
        framed->paused = true;
        framed->ops->touched(framed);
    }
    return framed->paused;
}

/* Takes every whole frame in `p`, none of which is in framed->in. */
static void split(struct framed *framed, const char *p, size_t n)
{
    while (n > 0 && !framed->stopped) {
        struct frame frame;
        size_t used;
        int r = is_full(framed) ? FRAME_E_MORE
                                : frame_read(p, n, framed->worker->max_frame, &frame, &used);
        if (framed->stopped)
            return;
        if (r == FRAME_E_MORE) {
            put_aside(framed, p, n);
            return;
        }
        if (r != 0) {
            framed->ops->no_frame(framed, r, p, n);
            return;
        }
        framed->ops->frame(framed, &frame);
        p += used;
        n -= used;
    }
}

void framed_resume(struct framed *framed)
{
    framed->paused = false;
    struct buf rest = framed->in;
    framed->in = (struct buf){0};
    if (buf_len(&rest) > 0)
        split(framed, buf_data(&rest), buf_len(&rest));
    buf_deinit(&rest);
}

/*
 * Completes the frame that is aside, taking no more than that from `p`, so that what follows it
 * needs no copy. Returns how many bytes were taken.
 */
static size_t complete(struct framed *framed, const char *p, size_t n)
{
    size_t taken = 0;
    for (;;) {
        size_t have = buf_len(&framed->in);
        size_t size = FRAME_HEAD_SIZE;
        int r = frame_size(buf_data(&framed->in), have, framed->worker->max_frame, &size);
        if (r != 0 && r != FRAME_E_MORE) {
            framed->ops->no_frame(framed, r, NULL, 0);
            return n;
        }
        if (r == 0 && have >= size)
            break;
        size_t take = MIN(size - have, n - taken);
        if (take == 0)
            return taken;
        if (put_aside(framed, p + taken, take) < 0)
            return n;
        taken += take;
    }
    struct buf whole = framed->in;
    framed->in = (struct buf){0};
    split(framed, buf_data(&whole), buf_len(&whole));
    buf_deinit(&whole);
    return taken;
}

static void receive(struct framed *framed)
{
    ssize_t n = recv(framed->fd, framed->worker->read_buffer, READ_SIZE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0) {
        framed->ops->ended(framed);
        return;
    }
    if (n < 0) {
        framed->ops->failed(framed, FRAMED_READING, -errno);
        return;
    }
    framed->ops->heard(framed);
    const char *p = framed->worker->read_buffer;
    size_t left = (size_t)n;
    if (buf_len(&framed->in) > 0 && !framed->stopped) {
        size_t taken = complete(framed, p, left);
        p += taken;
        left -= taken;
    }
    if (left > 0 && framed->paused)
        put_aside(framed, p, left);
    else
        split(framed, p, left);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct framed *framed = container_of(poll, struct framed, poll);
    if (status < 0) {
        framed->ops->failed(framed, FRAMED_POLLING, status);
        return;
    }
    if (events & UV_READABLE)
        receive(framed);
    if (events & UV_WRITABLE)
        framed->ops->touched(framed);
}

void framed_stop(struct framed *framed)
{
    framed->stopped = true;
    framed->paused = false;
}

void framed_shut(struct framed *framed)
{
    framed_stop(framed);
    buf_deinit(&framed->in);
    shutdown(framed->fd, SHUT_WR);
}

static void on_framed_closed(uv_handle_t *handle)
{
    struct framed *framed = container_of(handle, struct framed, poll);
    close(framed->fd);
    buf_deinit(&framed->in); /* not before: what it holds may be being dispatched */
    framed->ops->closed(framed);
}

void framed_close(struct framed *framed)
{
    framed_stop(framed);
    buf_deinit(&framed->out);
    framed_set_full(framed, false);
    uv_poll_stop(&framed->poll);
    uv_close((uv_handle_t *)&framed->poll, on_framed_closed);
}

int framed_open(struct framed *framed, struct workerd *worker, int fd, const struct framed_ops *ops)
{
    int r = uv_poll_init(&worker->loop, &framed->poll, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    framed->worker = worker;
    framed->ops = ops;
    framed->fd = fd;
    framed_wait(framed);
    return 0;
}
