/*
 * A channel's bytes.
 *
 * channel_open() -> on_poll() -> receive(): one read into the loop's buffer -> split(): every whole
 * frame goes to channel_dispatch(), an incomplete one is copied aside -> what handlers answer
 * gathers in `out` -> channel_flush(), once a turn, writes it.
 *
 * Ends. Reading or writing fails: channel_close(), calls are cancelled. The front closes: the same,
 * but what waits is written first, since it may be only its own side that it has closed, and reads
 * on. The front breaks the protocol, or no HELLO comes: GOAWAY, then linger(). GOAWAY from either
 * side: when no call is left and all is written, linger(). To linger is to close our direction and
 * read on until the front has closed its own, or for a second: closing a socket with unread bytes
 * would make it a reset, which over TCP can overtake the last answers.
 *
 * When it is the front that goes, its closing means more: what we have sent on the channel has
 * taken effect (protocol section 7). Until then, what would have gone on this channel waits in
 * `out`, see holds(); then another channel of the front sends it, so that the order stays. Where
 * the front has no channel yet that stays, as when we were held up while it was replaced, the old
 * one is used for as long as it takes, see awaits_other().
 */

#include "workerd/channel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "proto/hello.h"
#include "workerd/call.h"
#include "workerd/front.h"
#include "workerd/worker.h"

enum {
    OUT_MAX = 4 * 1024 * 1024, /* bytes that may wait for a front that does not read */
};

/* Other threads see only how many channels are full. */
static void set_full(struct channel *channel, bool full)
{
    if (LIKELY(full == channel->full))
        return;
    channel->full = full;
    if (full)
        atomic_fetch_add(&channel->worker->nfull, 1);
    else
        atomic_fetch_sub(&channel->worker->nfull, 1);
}

static void on_closed(uv_handle_t *handle)
{
    struct channel *channel = container_of(handle, struct channel, poll);
    struct workerd *worker = channel->worker;
    CHECK(list_empty(&channel->calls));
    close(channel->fd);
    buf_deinit(&channel->in); /* not before: what it holds may be being dispatched */
    idmap_deinit(&channel->pending);
    mem_free(channel);
    worker->nchannels--;
    worker_maybe_finish(worker);
}

/* Whether it takes what goes on another channel afterwards. */
static bool holds(const struct channel *channel)
{
    return channel->state == CHANNEL_LINGER && channel->front != NULL;
}

/* Gives what was held to the channel that is now the usual one; `id`: of the front. */
static void hand_over(struct workerd *worker, uint64_t id, const struct buf *held)
{
    struct front *front = front_find(worker, id);
    struct channel *other = front == NULL ? NULL : front_channel(front, 0);
    if (other == NULL || buf_append(&other->out, buf_data(held), buf_len(held)) < 0) {
        log_warning("%zu bytes of messages are lost: the front has no other channel, or there is "
                    "no memory",
            buf_len(held));
        return;
    }
    set_full(other, buf_len(&other->out) > OUT_MAX / 2);
    channel_touch(other);
}

void channel_close(struct channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return;
    bool held = holds(channel) && buf_len(&channel->out) > 0;
    uint64_t front = held ? channel->front->id : 0;
    channel->state = CHANNEL_CLOSED;
    list_remove(&channel->node);
    list_remove(&channel->dirty);
    front_leave(channel);
    if (held)
        hand_over(channel->worker, front, &channel->out);
    call_orphan_all(channel);
    buf_deinit(&channel->out);
    set_full(channel, false);
    uv_poll_stop(&channel->poll);
    uv_close((uv_handle_t *)&channel->poll, on_closed);
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Waits for what the channel's state calls for. */
static void set_events(struct channel *channel)
{
    int events = (channel->paused || channel->ended ? 0 : UV_READABLE);
    if (buf_len(&channel->out) > 0)
        events |= UV_WRITABLE;
    if (events == channel->events)
        return;
    channel->events = events;
    if (events == 0)
        uv_poll_stop(&channel->poll);
    else
        CHECK(uv_poll_start(&channel->poll, events, on_poll) == 0);
}

void channel_touch(struct channel *channel)
{
    if (list_empty(&channel->dirty) && channel->state != CHANNEL_CLOSED)
        list_append(&channel->worker->dirty, &channel->dirty);
}

static void linger(struct channel *channel)
{
    channel->state = CHANNEL_LINGER;
    channel->paused = false;
    /* Where it is we who go, nobody else is to say it, and it is not worth waiting. */
    if (channel->goaway_sent || channel->front == NULL ||
        !front_has_other(channel->front, channel)) {
        front_leave(channel);
        set_full(channel, false);
    }
    buf_deinit(&channel->in);
    shutdown(channel->fd, SHUT_WR);
    channel->since = uv_now(&channel->worker->loop);
    worker_due(channel->worker, channel->since + channel->worker->times.linger);
}

static void split(struct channel *channel, const char *p, size_t n);

/* Reads on where reading has stopped for want of room: first what is here already. */
static void resume(struct channel *channel)
{
    channel->paused = false;
    struct buf rest = channel->in;
    channel->in = (struct buf){0};
    if (buf_len(&rest) > 0)
        split(channel, buf_data(&rest), buf_len(&rest));
    buf_deinit(&rest);
}

/* Writes until all is written or the front has to read first. Returns 0 or -errno. */
static int write_some(struct channel *channel)
{
    while (buf_len(&channel->out) > 0) {
        ssize_t n = send(
            channel->fd, buf_data(&channel->out), buf_len(&channel->out), MSG_NOSIGNAL);
        if (n >= 0) {
            buf_consume(&channel->out, (size_t)n);
            if (channel->ended)
                channel->since = uv_now(&channel->worker->loop);
            set_full(channel, buf_len(&channel->out) > OUT_MAX / 2);
            continue;
        }
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno;
    }
    return 0;
}

/* Returns false when the channel is closed. */
static bool write_out(struct channel *channel)
{
    int r = write_some(channel);
    if (r < 0) {
        log_info(
            "shard %u: writing failed (%s): the channel is closed", channel->shard, strerror(-r));
        channel_close(channel);
    }
    return r == 0;
}

/*
 * Whether what is pushed in the meantime would have nowhere to go: the front reads on until we
 * close, and its next shards dial us, but we have not heard of them yet. Where it stops for good
 * none does, so this has a limit.
 */
static bool awaits_other(const struct channel *channel)
{
    return channel->told != 0 && !channel->goaway_sent && channel->front != NULL &&
           channel->front->pushed && !front_stays(channel->front) &&
           uv_now(&channel->worker->loop) - channel->told < channel->worker->times.linger;
}

/*
 * A front that goes does not wait for notifications, nor do we, since what their handlers send can
 * go on another channel. When we go there will be none.
 */
static bool may_end(const struct channel *channel)
{
    size_t may_go_on = channel->goaway_sent ? 0 : channel->nnotes;
    return channel->going && channel->ncalls == may_go_on && !awaits_other(channel);
}

void channel_flush(struct channel *channel)
{
    list_remove(&channel->dirty);
    if (channel->state == CHANNEL_CLOSED || channel->state == CHANNEL_LINGER || !write_out(channel))
        return;
    if (channel->paused && buf_len(&channel->out) <= OUT_MAX / 2)
        resume(channel);
    if (channel->state == CHANNEL_CLOSED)
        return;
    if (buf_len(&channel->out) == 0 && channel->ended && !awaits_other(channel)) {
        channel_close(channel);
        return;
    }
    if (buf_len(&channel->out) == 0 && !channel->ended && !channel->paused && may_end(channel)) {
        call_orphan_all(channel); /* notifications: nothing more is sent for them */
        linger(channel);
    }
    set_events(channel);
}

char *channel_frame(struct channel *channel, const struct frame_head *head)
{
    char *room = buf_room(&channel->out, FRAME_HEAD_SIZE + (size_t)head->length);
    if (room == NULL) {
        log_error("shard %u: no memory for an answer: the channel is closed", channel->shard);
        channel_close(channel);
        return NULL;
    }
    frame_head_write(head, (uint8_t *)room);
    buf_added(&channel->out, FRAME_HEAD_SIZE + (size_t)head->length);
    set_full(channel, buf_len(&channel->out) > OUT_MAX / 2);
    channel_touch(channel);
    return room + FRAME_HEAD_SIZE;
}

bool channel_has_room(struct channel *channel)
{
    /* A failure is seen to at the end of the turn: who asks here does not expect an end. */
    return buf_len(&channel->out) <= OUT_MAX ||
           (!holds(channel) && write_some(channel) == 0 && buf_len(&channel->out) <= OUT_MAX);
}

void channel_go(struct channel *channel, const char *reason)
{
    if (channel->goaway_sent || channel->state > CHANNEL_OPEN)
        return;
    struct buf body = {0};
    int64_t last = channel->last_call > INT64_MAX ? INT64_MAX : (int64_t)channel->last_call;
    if (goaway_write(&body, reason, last) < 0) {
        channel_close(channel);
        return;
    }
    channel->goaway_sent = true;
    channel->going = true;
    struct frame_head head = {.type = FRAME_GOAWAY, .length = (uint32_t)buf_len(&body)};
    char *payload = channel_frame(channel, &head);
    if (payload != NULL)
        memcpy(payload, buf_data(&body), buf_len(&body));
    buf_deinit(&body);
}

void channel_fail(struct channel *channel, const char *reason)
{
    if (channel->state > CHANNEL_OPEN)
        return;
    log_warning("shard %u: %s: the channel is closed", channel->shard, reason);
    channel_go(channel, reason);
    if (channel->state == CHANNEL_CLOSED)
        return;
    /* Nothing that was asked here is answered any more: what came before cannot be trusted. */
    call_orphan_all(channel);
    if (channel->state != CHANNEL_CLOSED && write_out(channel))
        buf_deinit(&channel->out);
    if (channel->state != CHANNEL_CLOSED) {
        list_remove(&channel->dirty);
        linger(channel);
        set_events(channel);
    }
}

/* Puts bytes aside until there is more, or room for the answers. Returns 0 or -ENOMEM. */
static int put_aside(struct channel *channel, const char *p, size_t n)
{
    if (buf_append(&channel->in, p, n) == 0)
        return 0;
    log_error("shard %u: no memory for a request: the channel is closed", channel->shard);
    channel_close(channel);
    return -ENOMEM;
}

/* Goes on where too much waits: true when nothing more may be dispatched now. */
static bool is_full(struct channel *channel)
{
    if (LIKELY(buf_len(&channel->out) <= OUT_MAX))
        return false;
    if (write_out(channel) && buf_len(&channel->out) > OUT_MAX) {
        channel->paused = true;
        channel_touch(channel);
    }
    return channel->paused;
}

/* Dispatches every whole frame in `p`, none of which is in channel->in. */
static void split(struct channel *channel, const char *p, size_t n)
{
    while (n > 0 && channel->state < CHANNEL_LINGER) {
        struct frame frame;
        size_t used;
        int r = is_full(channel) ? FRAME_E_MORE
                                 : frame_read(p, n, channel->worker->max_frame, &frame, &used);
        if (channel->state >= CHANNEL_LINGER)
            return;
        if (r == FRAME_E_MORE) {
            put_aside(channel, p, n);
            return;
        }
        if (r != 0) {
            const char *guess = channel->state == CHANNEL_HELLO ? frame_guess(p, n) : NULL;
            channel_fail(channel, guess != NULL ? guess : frame_error_text(r));
            return;
        }
        channel_dispatch(channel, &frame);
        p += used;
        n -= used;
    }
}

/*
 * Completes the frame that is aside, taking no more than that from `p`, so that what follows it
 * needs no copy. Returns how many bytes were taken.
 */
static size_t complete(struct channel *channel, const char *p, size_t n)
{
    size_t taken = 0;
    for (;;) {
        size_t have = buf_len(&channel->in);
        size_t size = FRAME_HEAD_SIZE;
        int r = frame_size(buf_data(&channel->in), have, channel->worker->max_frame, &size);
        if (r != 0 && r != FRAME_E_MORE) {
            channel_fail(channel, frame_error_text(r));
            return n;
        }
        if (r == 0 && have >= size)
            break;
        size_t take = MIN(size - have, n - taken);
        if (take == 0)
            return taken;
        if (put_aside(channel, p + taken, take) < 0)
            return n;
        taken += take;
    }
    struct buf whole = channel->in;
    channel->in = (struct buf){0};
    split(channel, buf_data(&whole), buf_len(&whole));
    buf_deinit(&whole);
    return taken;
}

/* The front has closed, or only its own side; then it reads on, and what waits is for it. */
static void on_end(struct channel *channel)
{
    struct workerd *worker = channel->worker;
    if (channel->state == CHANNEL_LINGER) {
        channel_close(channel);
        return;
    }
    log_info("shard %u: the front closed the channel, %zu calls in progress", channel->shard,
        channel->ncalls);
    worker_run_posts(worker); /* other threads were told that it would be sent */
    if (channel->state == CHANNEL_CLOSED)
        return;
    channel->ended = true;
    channel->since = uv_now(&worker->loop);
    call_orphan_all(channel);
    if (channel->state == CHANNEL_CLOSED)
        return;
    channel->going = true; /* others are better for what comes now */
    channel->paused = false;
    buf_deinit(&channel->in);
    channel_touch(channel);
    worker_due(worker, channel->since + worker->times.dead);
}

static void receive(struct channel *channel)
{
    struct workerd *worker = channel->worker;
    ssize_t n = recv(channel->fd, worker->read_buffer, READ_SIZE, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0) {
        on_end(channel);
        return;
    }
    if (n < 0) {
        if (channel->state != CHANNEL_LINGER)
            log_info("shard %u: reading failed (%s), %zu calls in progress: the channel is closed",
                channel->shard, strerror(errno), channel->ncalls);
        channel_close(channel);
        return;
    }
    channel->heard = uv_now(&worker->loop);
    if (UNLIKELY(channel->pinged)) {
        channel->pinged = false;
        worker_due(worker, channel->heard + worker->times.ping);
    }
    const char *p = worker->read_buffer;
    size_t left = (size_t)n;
    if (buf_len(&channel->in) > 0 && channel->state < CHANNEL_LINGER) {
        size_t taken = complete(channel, p, left);
        p += taken;
        left -= taken;
    }
    if (left > 0 && channel->paused)
        put_aside(channel, p, left);
    else
        split(channel, p, left);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct channel *channel = container_of(poll, struct channel, poll);
    if (status < 0) {
        log_info("shard %u: the connection broke: the channel is closed", channel->shard);
        channel_close(channel);
        return;
    }
    if (events & UV_READABLE)
        receive(channel);
    if (channel->state != CHANNEL_CLOSED && (events & UV_WRITABLE))
        channel_touch(channel);
}

/* Protocol section 10: PING after silence, and an end to it when nothing comes after that. */
static uint64_t tick_open(struct channel *channel, uint64_t now)
{
    const struct worker_times *times = &channel->worker->times;
    uint64_t due = channel->pinged ? channel->since + times->dead : channel->heard + times->ping;
    if (now < due)
        return due;
    if (!channel->pinged) {
        if (channel_frame(channel, &(struct frame_head){.type = FRAME_PING}) == NULL)
            return UINT64_MAX;
        channel->pinged = true;
        channel->since = now;
        return now + times->dead;
    }
    /* While calls are in progress their own deadlines govern. */
    if (channel->worker->ncalls > 0)
        return now + times->ping;
    log_warning("shard %u: silent since a PING: the channel is closed", channel->shard);
    if (write_out(channel)) /* an answer may have been given in this very turn */
        channel_close(channel);
    return UINT64_MAX;
}

/* A front that has closed its side and does not read either is as dead as one that is silent. */
static uint64_t tick_ended(struct channel *channel, uint64_t now)
{
    uint64_t due = channel->since + channel->worker->times.dead;
    if (now < due)
        return due;
    log_warning("shard %u: the front does not read the last %zu bytes: the channel is closed",
        channel->shard, buf_len(&channel->out));
    channel_close(channel);
    return UINT64_MAX;
}

uint64_t channel_tick(struct channel *channel, uint64_t now)
{
    const struct worker_times *times = &channel->worker->times;
    uint64_t due;
    switch (channel->state) {
    case CHANNEL_HELLO:
        due = channel->heard + times->hello;
        if (now < due)
            return due;
        channel_fail(channel, "no HELLO in time");
        return UINT64_MAX;
    case CHANNEL_LINGER:
        due = channel->since + times->linger;
        if (now < due)
            return due;
        channel_close(channel);
        return UINT64_MAX;
    case CHANNEL_OPEN:
        due = channel->ended ? tick_ended(channel, now) : tick_open(channel, now);
        if (channel->told == 0)
            return due;
        if (now < channel->told + times->linger)
            return MIN(due, channel->told + times->linger);
        channel_touch(channel);
        return due;
    case CHANNEL_CLOSED: break;
    }
    return UINT64_MAX;
}

int channel_open(struct workerd *worker, int fd)
{
    int one = 1;
    if (worker->socket.tcp)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct channel *channel = mem_zalloc(sizeof(*channel));
    if (channel == NULL || idmap_init(&channel->pending) < 0) {
        mem_free(channel);
        close(fd);
        return -ENOMEM;
    }
    int r = uv_poll_init(&worker->loop, &channel->poll, fd);
    if (r < 0) {
        idmap_deinit(&channel->pending);
        mem_free(channel);
        close(fd);
        return r;
    }
    channel->worker = worker;
    channel->fd = fd;
    channel->heard = uv_now(&worker->loop);
    channel->serial = ++worker->last_serial;
    list_init(&channel->dirty);
    list_init(&channel->of_front);
    list_init(&channel->calls);
    list_append(&worker->channels, &channel->node);
    worker->nchannels++;
    set_events(channel);
    worker_due(worker, channel->heard + worker->times.hello);
    return 0;
}
