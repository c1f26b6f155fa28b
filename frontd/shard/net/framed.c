#include "frontd/shard/net/framed.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/shard/net/profile.h"
#include "frontd/system/loop.h"

enum {
    READ_SIZE = 256 * 1024, /* big, since many frames come at once */
    REST_READS_MAX = 64,    /* after an error: more than a socket's buffer holds */
};

/* Whether there is a buffer for reads: a stream may have taken the last one. */
static bool has_read_buffer(struct ctx *ctx)
{
    if (UNLIKELY(ctx->stream_read_buf == NULL))
        ctx->stream_read_buf = mem_get(READ_SIZE, &ctx->stream_read_size);
    return ctx->stream_read_buf != NULL;
}

static void on_stream_poll(uv_poll_t *poll, int status, int events);

static void mark_dirty(struct stream *stream)
{
    if (list_empty(&stream->dirty))
        list_append(&stream->ctx->dirty_streams, &stream->dirty);
}

void stream_fail(struct stream *stream, const char *why)
{
    if (!stream->open || stream->closing)
        return;
    stream->failed = why;
    mark_dirty(stream);
}

static void on_stream_poll_closed(uv_handle_t *handle)
{
    struct stream *stream = handle->data;
    close(stream->fd);
    stream->fd = -1;
    stream->open = false;
    stream->ops->closed(stream);
}

/*
 * Has close() reset a TCP connection with bytes that the peer has not taken: the kernel would offer
 * them to it for minutes more. (What was sent over a UNIX socket is at the peer already.)
 */
static void drop_unsent(const struct stream *stream)
{
    const struct linger at_once = {.l_onoff = 1};
    int unsent = (int)MIN(buf_len(&stream->out), (size_t)1);
    if (stream->given_up && unsent == 0 && ioctl(stream->fd, SIOCOUTQ, &unsent) < 0)
        return;
    if (unsent > 0)
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void stream_close(struct stream *stream)
{
    if (!stream->open || stream->closing)
        return;
    stream->closing = true;
    drop_unsent(stream);
    list_remove(&stream->dirty);
    list_remove(&stream->busy);
    if (stream->holder != NULL)
        *stream->holder = NULL;
    stream->holder = NULL;
    buf_deinit(&stream->in);
    buf_deinit(&stream->out);
    stream->tls = stream_tls_free(stream->tls);
    uv_close((uv_handle_t *)&stream->poll, on_stream_poll_closed);
}

char *stream_add(struct stream *stream, const struct frame_head *head)
{
    size_t n = FRAME_HEAD_SIZE + (size_t)head->length;
    char *room = buf_room(&stream->out, n);
    if (room == NULL)
        return NULL;
    frame_head_write(head, (uint8_t *)room);
    buf_added(&stream->out, n);
    stream->appended += n;
    mark_dirty(stream);
    return room + FRAME_HEAD_SIZE;
}

char *stream_add_raw(struct stream *stream, const char *bytes, size_t n)
{
    char *room = buf_room(&stream->out, n);
    if (room == NULL)
        return NULL;
    memcpy(room, bytes, n);
    buf_added(&stream->out, n);
    stream->appended += n;
    mark_dirty(stream);
    return room;
}

void stream_wait(struct stream *stream, struct stream **holder)
{
    stream->holder = holder;
    stream->full = false;
    *holder = stream;
}

/* Whether a frame is carried out together with the one before it, for which the stream waits. */
static bool joins(
    const struct stream *stream, const struct frame *frame, const struct frame *before)
{
    /* A sibling's PUBLISH of a named realm is an extension (mesh.c), with the realm in meta. */
    uint8_t type = frame->head.type;
    return !stream->full && (type == FRAME_PUBLISH || type == FRAME_PUBLISH + FRAME_EXTENSION) &&
           before->head.type == type && frame->head.conn == before->head.conn &&
           frame->meta.n == before->meta.n &&
           memcmp(frame->meta.p, before->meta.p, frame->meta.n) == 0;
}

/*
 * A frame over max_frame is at `p`. Returns whether it is skipped; *ret_used: the bytes of it that
 * are here. One over FRAME_SKIP_MAX is not: after a wrong length no frame would be heard again.
 */
static bool skip_frame(struct stream *stream, const char *p, size_t n, size_t *ret_used)
{
    struct frame_head head;
    if (stream->ops->too_long == NULL || frame_head_read(p, n, FRAME_SKIP_MAX, &head) != 0 ||
        !stream->ops->too_long(stream, &head))
        return false;
    size_t size = FRAME_HEAD_SIZE + (size_t)head.length;
    *ret_used = MIN(size, n);
    stream->skip = size - *ret_used;
    return true;
}

/* Skips what there is of the rest of a frame. Returns the bytes used. */
static size_t skip_bytes(struct stream *stream, size_t n)
{
    size_t used = (size_t)MIN(stream->skip, (uint64_t)n);
    stream->skip -= used;
    stream->consumed += used;
    return used;
}

/*
 * Carries out the complete frames at `p`, up to `work` units. Returns the bytes used: less than `n`
 * where the last frame is not complete, frames are left for later, or the stream was closed.
 */
static size_t read_frames(struct stream *stream, const char *p, size_t n, uint64_t work)
{
    struct ctx *ctx = stream->ctx;
    struct frame before = {0};
    uint64_t until = ctx->work + work;
    size_t at = 0;
    stream->left = false;
    ctx->reading = stream;
    while (!stream->closing) {
        struct frame frame;
        size_t used;
        int r = frame_read(p + at, n - at, stream->max_frame, &frame, &used);
        if (r == FRAME_E_MORE)
            break;
        bool waits = stream->holder != NULL && (r != 0 || !joins(stream, &frame, &before));
        if (waits || ctx->work >= until) {
            stream->left = true;
            break;
        }
        if (r == FRAME_E_LIMIT && skip_frame(stream, p + at, n - at, &used)) {
            at += used;
            continue;
        }
        if (r != 0) {
            const char *guess = stream->consumed + at == 0 ? frame_guess(p, n) : NULL;
            if (!stream->closing)
                stream->ops->broken(stream, guess != NULL ? guess : frame_error_text(r));
            break;
        }
        at += used;
        ctx->work += 1 + (used >> WORK_SHIFT);
        before = frame;
        stream->ops->frame(stream, &frame);
    }
    ctx->reading = NULL;
    stream->consumed += at;
    if (stream->left && stream->holder == NULL && !stream->closing)
        list_append(&ctx->busy_streams, &stream->busy);
    return at;
}

/* Carries out frames in `in`. */
static void read_rest(struct stream *stream, uint64_t work)
{
    /* Out of the stream while its frames are carried out: stream_close() frees its buffers. */
    struct buf frames = stream->in;
    stream->in = (struct buf){0};
    size_t used = read_frames(stream, buf_data(&frames), buf_len(&frames), work);
    buf_consume(&frames, used);
    if (stream->closing)
        buf_deinit(&frames);
    else
        stream->in = frames;
}

/*
 * The same as buf_append() for bytes in the read buffer. Without memory for a copy the stream keeps
 * the read buffer itself, with what was in `in` before: a sibling's socket that ends is not made
 * anew. Returns 0 or -ENOMEM.
 */
static int keep(struct ctx *ctx, struct buf *in, const char *p, size_t n)
{
    char *buffer = ctx->stream_read_buf;
    size_t before = buf_len(in);
    if (LIKELY(buf_append(in, p, n) == 0))
        return 0;
    if (before + n > READ_SIZE)
        return -ENOMEM;
    memmove(buffer + before, p, n);
    if (before > 0)
        memcpy(buffer, buf_data(in), before);
    buf_deinit(in);
    *in = (struct buf){
        .memory = buffer, .end = (uint32_t)(before + n), .size = (uint32_t)ctx->stream_read_size};
    ctx->stream_read_buf = NULL;
    return 0;
}

static void take_bytes(struct stream *stream, const char *p, size_t n)
{
    if (UNLIKELY(stream->skip > 0)) {
        size_t used = skip_bytes(stream, n);
        p += used;
        n -= used;
    }
    if (buf_len(&stream->in) == 0) {
        size_t used = read_frames(stream, p, n, WORK_STREAM);
        p += used;
        n -= used;
    }
    if (stream->closing || n == 0)
        return;
    if (keep(stream->ctx, &stream->in, p, n) < 0) {
        stream->ops->broken(stream, "no memory");
        return;
    }
    const struct buf *in = &stream->in;
    size_t need;
    if (stream->left || stream->holder != NULL)
        return; /* frames are left for later */
    if (frame_size(buf_data(in), buf_len(in), stream->max_frame, &need) == 0 && buf_len(in) < need)
        return; /* a long frame: look again when it is there */
    read_rest(stream, WORK_STREAM);
}

uint64_t stream_due(const struct stream *stream)
{
    int unread = 0;
    if (ioctl(stream->fd, FIONREAD, &unread) < 0)
        unread = 0;
    return stream->consumed + buf_len(&stream->in) + (uint64_t)unread;
}

/* Frames that were left have been carried out: the stream may be read again. */
static void resume(struct stream *stream)
{
    stream->heard_at = ctx_now(stream->ctx); /* the peer was not read meanwhile */
    if (!stream->closing && !stream_occupied(stream) && stream->failed != NULL)
        mark_dirty(stream); /* its socket may have more */
}

void stream_go_on(struct stream *stream, uint64_t work)
{
    list_remove(&stream->busy);
    read_rest(stream, work);
    resume(stream);
}

void stream_release(struct stream *stream)
{
    *stream->holder = NULL;
    stream->holder = NULL;
    if (stream->left)
        list_append(&stream->ctx->busy_streams, &stream->busy);
    resume(stream);
}

/* Reads once. Returns whether there may be more to read. */
static bool on_readable(struct stream *stream)
{
    if (!has_read_buffer(stream->ctx))
        return false; /* what lies there is asked for again */
    char *buffer = stream->ctx->stream_read_buf;
    ssize_t n = LIKELY(stream->tls == NULL) ? read(stream->fd, buffer, READ_SIZE)
                                            : stream_tls_read(stream->tls, buffer, READ_SIZE);
    if (n > 0 && UNLIKELY(stream->tls != NULL) && errno != 0)
        stream_fail(stream, stream_tls_error_text(stream->tls, -errno)); /* after these bytes */
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            stream->ops->broken(stream, stream_tls_error_text(stream->tls, -errno));
        return false;
    }
    if (n == 0) {
        const struct buf *in = &stream->in;
        const char *guess = stream->consumed == 0 && buf_len(in) > 0
                                ? frame_guess(buf_data(in), buf_len(in))
                                : NULL;
        stream->ended = true;
        stream->ops->broken(stream, guess != NULL ? guess : "the peer closed it");
        return false;
    }
    stream->heard_at = ctx_now(stream->ctx);
    take_bytes(stream, buffer, (size_t)n);
    return !stream->closing;
}

static bool is_in_handshake(const struct stream *stream)
{
    return stream->connecting && stream->shaking_hands;
}

/* Has the poll wait for what can be done now. */
static void update_events(struct stream *stream)
{
    int events = (stream->deaf || stream->ended ? 0 : UV_READABLE) |
                 (buf_len(&stream->out) > 0 || stream->connecting ? UV_WRITABLE : 0);
    if (is_in_handshake(stream))
        events = stream_tls_wants_room(stream->tls) ? UV_WRITABLE : UV_READABLE;
    if (stream->closing || stream->events == events)
        return;
    stream->events = events;
    if (events == 0)
        CHECK(uv_poll_stop(&stream->poll) == 0);
    else
        CHECK(uv_poll_start(&stream->poll, events, on_stream_poll) == 0);
}

/* The socket's pending error, as -errno; 0: none. */
static int socket_error(const struct stream *stream)
{
    int error = 0;
    socklen_t len = sizeof(error);
    getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    return -error;
}

/* Goes on with the handshake. Returns whether there is none, or it is done. */
static bool shake_hands(struct stream *stream)
{
    const char *why = NULL;
    if (LIKELY(stream->tls == NULL))
        return true;
    int r = stream_tls_connect(stream->tls, &why);
    stream->shaking_hands = r == -EAGAIN;
    if (r == -EAGAIN)
        update_events(stream);
    else if (r < 0)
        stream->ops->broken(stream, why);
    return r == 0;
}

static void on_connected(struct stream *stream, int status)
{
    int error = socket_error(stream);
    if (error != 0 || status < 0) {
        stream->ops->broken(stream, log_error_text(error != 0 ? error : status));
        return;
    }
    if (!shake_hands(stream))
        return;
    stream->connecting = false;
    stream->heard_at = ctx_now(stream->ctx);
    stream->ops->connected(stream);
    update_events(stream);
}

static void on_stream_poll(uv_poll_t *poll, int status, int events)
{
    profile_enter(PROFILE_WORKERS);
    struct stream *stream = poll->data;
    ctx_now_us(stream->ctx); /* from here on the turn is busy */
    if (stream->connecting) {
        on_connected(stream, status);
        return;
    }
    if (status < 0) {
        /*
         * libuv has stopped the poll, and reports EBADF for every EPOLLERR: as when the peer has
         * closed with bytes of ours unread.
         */
        int error = socket_error(stream);
        stream_fail(stream, log_error_text(error != 0 ? error : status));
        return;
    }
    if (events & UV_WRITABLE)
        stream_flush(stream);
    if ((events & UV_READABLE) && !stream->closing && !stream->deaf && !stream_occupied(stream))
        on_readable(stream);
}

static ssize_t write_out(struct stream *stream)
{
    const char *p = buf_data(&stream->out);
    size_t n = buf_len(&stream->out);
    if (LIKELY(stream->tls == NULL))
        return send(stream->fd, p, n, MSG_NOSIGNAL);
    return stream_tls_write(stream->tls, p, n);
}

void stream_flush(struct stream *stream)
{
    list_remove(&stream->dirty);
    if (buf_len(&stream->out) == 0 || stream->closing || stream->connecting)
        return;
    ssize_t n = write_out(stream);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        stream_fail(stream, stream_tls_error_text(stream->tls, -errno));
        return;
    } else if (n > 0) {
        stream->written += (uint64_t)n;
        buf_consume(&stream->out, (size_t)n);
    }
    update_events(stream);
    if (UNLIKELY(buf_len(&stream->out) < stream->drain_to)) {
        stream->drain_to = 0;
        stream->ops->drained(stream);
    }
}

void stream_end_turn(struct stream *stream)
{
    list_remove(&stream->dirty);
    if (stream->failed == NULL) {
        stream_flush(stream);
        return;
    }
    const char *why = stream->failed;
    for (int i = 0; i < REST_READS_MAX && !stream_occupied(stream) && on_readable(stream); i++)
        ;
    if (!stream->closing && !stream_occupied(stream)) /* else resume() brings it here again */
        stream->ops->broken(stream, why);
}

void stream_set_deaf(struct stream *stream, bool deaf)
{
    if (stream->deaf && !deaf)
        stream->heard_at = ctx_now(stream->ctx); /* the peer was not read meanwhile */
    stream->deaf = deaf;
    if (stream->open)
        update_events(stream);
}

void stream_use_tls(struct stream *stream, struct ssl_st *tls)
{
    CHECK(stream->connecting && stream->tls == NULL);
    stream->tls = tls;
}

int stream_shut(struct stream *stream)
{
    if (stream->tls != NULL)
        stream_tls_shut(stream->tls);
    return shutdown(stream->fd, SHUT_WR) < 0 ? -errno : 0;
}

void stream_free_buffer(struct ctx *ctx)
{
    mem_put(ctx->stream_read_buf, READ_SIZE);
    ctx->stream_read_buf = NULL;
}

int stream_open(
    struct stream *stream, struct ctx *ctx, const struct stream_ops *ops, int fd, bool connecting)
{
    *stream = (struct stream){.ctx = ctx, .ops = ops, .fd = fd, .connecting = connecting};
    stream->max_frame = FRAME_MAX_DEFAULT;
    list_init(&stream->dirty);
    list_init(&stream->busy);
    int r = has_read_buffer(ctx) ? loop_poll_init(&ctx->loop, &stream->poll, fd) : -ENOMEM;
    if (r < 0) {
        close(fd);
        return r;
    }
    stream->poll.data = stream;
    stream->heard_at = ctx_now(ctx);
    stream->open = true;
    update_events(stream);
    return 0;
}
