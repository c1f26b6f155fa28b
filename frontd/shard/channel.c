/*
 * channel_dial() connects; on_poll() sees the connection made, sends HELLO and waits 5 s for the
 * worker's, whose arrival is opened(). From then on calls go out with channel_send_call(), gathered
 * and written once a turn, and frames come in: each RESPONSE is looked up by its call id and given
 * to the owner.
 *
 * It ends in lose(), once: the worker closed, or does not answer in time, or broke the protocol
 * (then it is sent GOAWAY with the reason), or the owner shuts it. lost() lets the owner settle the
 * calls; closed() follows when libuv has let go of the handle.
 */

#include "frontd/shard/channel.h"

#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"

/* Reads of all channels land here: big, since many answers come at once. */
enum { READ_SIZE = 256 * 1024 };

static char *read_buffer;

int channel_init(
    struct channel *channel, struct ctx *ctx, const struct channel_ops *ops, const char *pool)
{
    *channel = (struct channel){.ctx = ctx, .ops = ops, .pool = pool, .fd = -1};
    if (read_buffer == NULL) {
        size_t size;
        read_buffer = mem_get(READ_SIZE, &size);
        if (read_buffer == NULL)
            return -ENOMEM;
    }
    list_init(&channel->dirty);
    wheel_timer_init(&channel->timer, TIMER_CHANNEL);
    return idmap_init(&channel->calls);
}

void channel_deinit(struct channel *channel)
{
    CHECK(channel->state == CHANNEL_CLOSED);
    idmap_deinit(&channel->calls);
}

static void on_closed(uv_handle_t *handle)
{
    struct channel *channel = handle->data;
    close(channel->fd);
    channel->fd = -1;
    channel->state = CHANNEL_CLOSED;
    channel->ops->closed(channel);
}

static void lose(struct channel *channel, const char *why)
{
    if (channel->state == CHANNEL_CLOSING)
        return;
    channel->state = CHANNEL_CLOSING;
    wheel_disarm(&channel->timer);
    list_remove(&channel->dirty);
    buf_deinit(&channel->in);
    buf_deinit(&channel->out);
    channel->ops->lost(channel, why);
    CHECK(channel->calls.count == 0);
    uv_close((uv_handle_t *)&channel->poll, on_closed);
}

static void mark_dirty(struct channel *channel)
{
    if (list_empty(&channel->dirty))
        list_append(&channel->ctx->dirty_channels, &channel->dirty);
}

/* Room for a small frame; where there is no memory for even that, the channel is of no use. */
static char *frame_room(struct channel *channel, const struct frame_head *head)
{
    char *room = buf_room(&channel->out, FRAME_HEAD_SIZE + head->length);
    if (room == NULL) {
        lose(channel, "no memory");
        return NULL;
    }
    frame_head_write(head, (uint8_t *)room);
    buf_added(&channel->out, FRAME_HEAD_SIZE + head->length);
    channel->appended += FRAME_HEAD_SIZE + head->length;
    mark_dirty(channel);
    return room + FRAME_HEAD_SIZE;
}

static void send_frame(
    struct channel *channel, enum frame_type type, uint64_t call, struct span body)
{
    struct frame_head head = {.type = (uint8_t)type, .call = call, .length = (uint32_t)body.n};
    char *room = frame_room(channel, &head);
    if (room != NULL && body.n > 0)
        memcpy(room, body.p, body.n);
}

static void send_goaway(struct channel *channel, const char *reason)
{
    struct buf body = {0};
    if (!channel->said_goaway && goaway_write(&body, reason, -1) == 0)
        send_frame(channel, FRAME_GOAWAY, 0, (struct span){buf_data(&body), buf_len(&body)});
    channel->said_goaway = true;
    buf_deinit(&body);
}

/* The worker broke the protocol (section 2): it is told why, and nobody else suffers. */
static void refuse(struct channel *channel, const char *reason)
{
    send_goaway(channel, reason);
    channel_flush(channel);
    lose(channel, reason);
}

static void send_hello(struct channel *channel)
{
    const struct identity *identity = &channel->ctx->identity;
    struct hello_front hello = {
        .instance = identity->instance,
        .pool = channel->pool,
        .generation = identity->generation,
        .shard = identity->shard,
        .shards = identity->shards,
        .max_frame = FRAME_MAX_DEFAULT,
    };
    struct buf body = {0};
    if (hello_front_write(&body, &hello) < 0) {
        lose(channel, "no memory");
        return;
    }
    channel->state = CHANNEL_GREETING;
    send_frame(channel, FRAME_HELLO, 0, (struct span){buf_data(&body), buf_len(&body)});
    buf_deinit(&body);
}

static void on_hello(struct channel *channel, const struct frame *frame)
{
    struct hello_worker hello;
    if (channel->state != CHANNEL_GREETING) {
        refuse(channel, "second HELLO");
        return;
    }
    int r = hello_worker_read(frame->body, &hello);
    if (r != 0) {
        refuse(channel, r == HELLO_E_VERSION ? "version" : "bad HELLO");
        return;
    }
    channel->state = CHANNEL_OPEN;
    channel->max_frame = hello.max_frame;
    ctx_arm(channel->ctx, &channel->timer, CHANNEL_QUIET_MS);
    channel->ops->opened(channel, &hello);
    hello_worker_deinit(&hello);
}

static void on_goaway(struct channel *channel, const struct frame *frame)
{
    char reason[128];
    uint64_t last_call;
    goaway_read(frame->body, reason, sizeof(reason), &last_call);
    if (channel->state == CHANNEL_GREETING) {
        lose(channel, reason); /* "version": it does not want us */
        return;
    }
    channel->state = CHANNEL_LEAVING;
    channel->ops->leaving(channel, reason, last_call);
}

/* RESPONSE and DATA belong to a call that was sent and not yet answered, or are a lie. */
static void on_answer(struct channel *channel, const struct frame *frame)
{
    struct idmap_node *call = idmap_find(&channel->calls, frame->head.call);
    if (call == NULL) {
        refuse(channel, "answer to a call that is not in progress");
        return;
    }
    channel->ops->frame(channel, call, frame);
}

static void on_frame(struct channel *channel, const struct frame *frame)
{
    bool greeted = channel->state != CHANNEL_GREETING;
    switch (frame->head.type) {
    case FRAME_HELLO: on_hello(channel, frame); return;
    case FRAME_GOAWAY: on_goaway(channel, frame); return;
    case FRAME_PING:
        if (frame->body.n > FRAME_PING_MAX)
            refuse(channel, "PING over 64 bytes");
        else
            send_frame(channel, FRAME_PONG, 0, frame->body);
        return;
    case FRAME_PONG: return;
    case FRAME_RESPONSE:
    case FRAME_DATA:
        if (greeted) {
            on_answer(channel, frame);
            return;
        }
        break;
    case FRAME_REQUEST:
    case FRAME_CANCEL: break; /* front to worker only */
    case FRAME_PUSH:
    case FRAME_PUBLISH:
    case FRAME_SUBSCRIBE:
    case FRAME_UNSUBSCRIBE:
    case FRAME_DISCONNECT:
        if (greeted)
            return; /* to a connection that is not there: no client of ours stays (section 9) */
        break;
    default: return; /* WINDOW: we send no DATA; extensions: skipped (section 2) */
    }
    refuse(channel, greeted ? "frame of a front" : "HELLO comes first");
}

/* Takes the complete frames at `p`. Returns the bytes used; less than n when it is lost. */
static size_t read_frames(struct channel *channel, const char *p, size_t n)
{
    size_t at = 0;
    while (channel->state != CHANNEL_CLOSING) {
        struct frame frame;
        size_t used;
        int r = frame_read(p + at, n - at, FRAME_MAX_DEFAULT, &frame, &used);
        if (r == FRAME_E_MORE)
            break;
        if (r != 0) {
            refuse(channel, frame_error_text(r));
            break;
        }
        at += used;
        on_frame(channel, &frame);
    }
    return at;
}

static void take_bytes(struct channel *channel, const char *p, size_t n)
{
    if (buf_len(&channel->in) == 0) {
        size_t used = read_frames(channel, p, n);
        p += used;
        n -= used;
    }
    if (channel->state == CHANNEL_CLOSING || n == 0)
        return;
    if (buf_append(&channel->in, p, n) < 0) {
        lose(channel, "no memory");
        return;
    }
    size_t need;
    if (frame_size(buf_data(&channel->in), buf_len(&channel->in), FRAME_MAX_DEFAULT, &need) == 0 &&
        buf_len(&channel->in) < need)
        return; /* a long frame: look again when it is there */
    size_t used = read_frames(channel, buf_data(&channel->in), buf_len(&channel->in));
    if (channel->state != CHANNEL_CLOSING)
        buf_consume(&channel->in, used);
}

static void on_readable(struct channel *channel)
{
    ssize_t n = read(channel->fd, read_buffer, READ_SIZE);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            lose(channel, uv_strerror(-errno));
        return;
    }
    if (n == 0) {
        lose(channel, "the worker closed it");
        return;
    }
    channel->heard_at = ctx_now(channel->ctx);
    channel->pinged_at = 0;
    take_bytes(channel, read_buffer, (size_t)n);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void wait_for(struct channel *channel, int events)
{
    if (channel->events == events)
        return;
    channel->events = events;
    CHECK(uv_poll_start(&channel->poll, events, on_poll) == 0);
}

static void on_connected(struct channel *channel)
{
    int error = 0;
    socklen_t len = sizeof(error);
    getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        lose(channel, uv_strerror(-error));
        return;
    }
    wait_for(channel, UV_READABLE);
    ctx_arm(channel->ctx, &channel->timer, CHANNEL_HELLO_MS);
    send_hello(channel);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct channel *channel = poll->data;
    if (status < 0) {
        lose(channel, uv_strerror(status));
        return;
    }
    if (channel->state == CHANNEL_CONNECTING) {
        on_connected(channel);
        return;
    }
    if (events & UV_WRITABLE)
        channel_flush(channel);
    if ((events & UV_READABLE) && channel->state != CHANNEL_CLOSING)
        on_readable(channel);
}

int channel_dial(struct channel *channel, const struct sockaddr *address, socklen_t len)
{
    CHECK(channel->state == CHANNEL_CLOSED);
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (address->sa_family != AF_UNIX) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    int r = connect(fd, address, len) < 0 && errno != EINPROGRESS ? -errno : 0;
    if (r == 0)
        r = uv_poll_init(&channel->ctx->loop, &channel->poll, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    channel->poll.data = channel;
    channel->fd = fd;
    channel->state = CHANNEL_CONNECTING;
    channel->last_id = channel->appended = channel->written = 0;
    channel->pinged_at = 0;
    channel->said_goaway = false;
    channel->heard_at = ctx_now(channel->ctx);
    channel->events = 0;
    wait_for(channel, UV_WRITABLE);
    ctx_arm(channel->ctx, &channel->timer, CHANNEL_HELLO_MS);
    return 0;
}

int channel_send_call(struct channel *channel, struct idmap_node *call, struct buf *frame,
    bool notify, uint64_t *ret_end)
{
    size_t n = buf_len(frame);
    if (n - FRAME_HEAD_SIZE > channel->max_frame)
        return -EMSGSIZE;
    char *room = buf_room(&channel->out, n);
    if (room == NULL)
        return -ENOMEM;
    call->id = ++channel->last_id;
    memcpy(room, buf_data(frame), n);
    uint64_t id = htobe64(call->id);
    memcpy(room + 8, &id, sizeof(id)); /* where the header has it (protocol section 2) */
    buf_added(&channel->out, n);
    channel->appended += n;
    *ret_end = channel->appended;
    if (!notify)
        idmap_add(&channel->calls, call);
    mark_dirty(channel);
    return 0;
}

void channel_cancel(struct channel *channel, uint64_t call)
{
    send_frame(channel, FRAME_CANCEL, call, (struct span){0});
}

void channel_window(struct channel *channel, uint64_t call, size_t bytes)
{
    char body[48];
    int n = snprintf(body, sizeof(body), "{\"bytes\":%zu}", bytes);
    send_frame(channel, FRAME_WINDOW, call, (struct span){body, (size_t)n});
}

void channel_leave(struct channel *channel)
{
    if (channel->state != CHANNEL_OPEN && channel->state != CHANNEL_LEAVING)
        return;
    channel->state = CHANNEL_LEAVING;
    send_goaway(channel, "shutdown");
}

void channel_shut(struct channel *channel, const char *reason)
{
    if (channel->state == CHANNEL_CLOSED || channel->state == CHANNEL_CLOSING)
        return;
    if (channel->state == CHANNEL_CONNECTING)
        lose(channel, reason);
    else
        refuse(channel, reason);
}

void channel_flush(struct channel *channel)
{
    list_remove(&channel->dirty);
    if (buf_len(&channel->out) == 0 || channel->state == CHANNEL_CLOSING)
        return;
    ssize_t n = send(
        channel->fd, buf_data(&channel->out), buf_len(&channel->out), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        /* A broken connection is seen by the read, which may still find answers. */
        if (errno == EAGAIN || errno == EINTR)
            wait_for(channel, UV_READABLE | UV_WRITABLE);
        else
            wait_for(channel, UV_READABLE);
        return;
    }
    channel->written += (uint64_t)n;
    buf_consume(&channel->out, (size_t)n);
    wait_for(channel, buf_len(&channel->out) > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

/* Protocol section 10. */
static void check_alive(struct channel *channel)
{
    uint64_t now = ctx_now(channel->ctx);
    if (channel->pinged_at != 0 && now - channel->pinged_at >= CHANNEL_DEAD_MS &&
        !channel->ops->may_be_silent(channel)) {
        lose(channel, "no answer to PING");
        return;
    }
    if (channel->pinged_at == 0 && now - channel->heard_at >= CHANNEL_QUIET_MS) {
        channel->pinged_at = now;
        send_frame(channel, FRAME_PING, 0, (struct span){0});
    }
    if (channel->state != CHANNEL_CLOSING)
        ctx_arm(channel->ctx, &channel->timer, CHANNEL_QUIET_MS);
}

void channel_timeout(struct wheel_timer *timer)
{
    struct channel *channel = container_of(timer, struct channel, timer);
    switch (channel->state) {
    case CHANNEL_CONNECTING: lose(channel, "connecting took too long"); break;
    case CHANNEL_GREETING: refuse(channel, "no HELLO in time"); break;
    case CHANNEL_OPEN:
    case CHANNEL_LEAVING: check_alive(channel); break;
    default: break;
    }
}
