/*
 * How a channel ends. Its bytes are those of framed.c; what frames mean is in dispatch.c.
 *
 * Reading or writing fails: channel_close(), calls are cancelled. The front closes: the same, but
 * what waits is written first, since it may have closed its own direction only, and read on. The
 * front breaks the protocol, or no HELLO comes: GOAWAY, then linger(). GOAWAY from either side:
 * when no call is left and all is written, linger(). To linger is to close our direction and read
 * on until the front has closed its own, or for a second: closing a socket with unread bytes would
 * make it a reset, which over TCP can overtake the last answers.
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

static struct channel *channel_of(struct framed *framed)
{
    return container_of(framed, struct channel, framed);
}

static void on_channel_closed(struct framed *framed)
{
    struct channel *channel = channel_of(framed);
    struct workerd *worker = channel->worker;
    CHECK(list_empty(&channel->calls) && list_empty(&channel->waiting));
    idmap_deinit(&channel->pending);
    mem_free(channel);
    worker->nchannels--;
    worker_maybe_finish(worker);
}

/* Whether what is sent on it waits, and goes on another channel afterwards. */
static bool holds(const struct channel *channel)
{
    return channel->state == CHANNEL_LINGER && channel->front != NULL;
}

/*
 * Gives what a channel has held to the one that is the usual one of its front now. id: of the
 * front.
 */
static void hand_over(struct workerd *worker, uint64_t id, const struct buf *held)
{
    struct front *front = front_find(worker, id);
    struct channel *other = front == NULL ? NULL : front_channel(front, 0);
    if (other == NULL || framed_append(&other->framed, held) < 0) {
        log_warning("%zu bytes of messages are lost: the front has no other channel, or there is "
                    "no memory",
            buf_len(held));
        return;
    }
    channel_touch(other);
}

void channel_close(struct channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return;
    bool held = holds(channel) && buf_len(&channel->framed.out) > 0;
    uint64_t front = held ? channel->front->id : 0;
    channel->state = CHANNEL_CLOSED;
    framed_stop(&channel->framed);
    list_remove(&channel->node);
    list_remove(&channel->dirty);
    front_leave(channel);
    if (held)
        hand_over(channel->worker, front, &channel->framed.out);
    call_orphan_all(channel);
    framed_close(&channel->framed);
}

void channel_touch(struct channel *channel)
{
    if (list_empty(&channel->dirty) && channel->state != CHANNEL_CLOSED)
        list_append(&channel->worker->dirty, &channel->dirty);
}

static void linger(struct channel *channel)
{
    channel->state = CHANNEL_LINGER;
    /* Where it is we that go, there will be no other channel to send on, and nothing is held. */
    if (channel->goaway_sent || channel->front == NULL ||
        !front_has_other(channel->front, channel)) {
        front_leave(channel);
        framed_set_full(&channel->framed, false);
    }
    framed_shut(&channel->framed);
    channel->since = uv_now(&channel->worker->loop);
    worker_due(channel->worker, channel->since + channel->worker->times.linger);
}

static void on_channel_failed(struct framed *framed, enum framed_failure what, int error)
{
    struct channel *channel = channel_of(framed);
    switch (what) {
    case FRAMED_READING:
        if (channel->state != CHANNEL_LINGER)
            log_info("shard %u: reading failed (%s), %zu calls in progress: the channel is closed",
                channel->shard, strerror(-error), channel->ncalls);
        break;
    case FRAMED_WRITING:
        log_info("shard %u: writing failed (%s): the channel is closed", channel->shard,
            strerror(-error));
        break;
    case FRAMED_POLLING:
        log_info("shard %u: the connection broke: the channel is closed", channel->shard);
        break;
    case FRAMED_MEMORY:
        log_error("shard %u: no memory for a request: the channel is closed", channel->shard);
        break;
    }
    channel_close(channel);
}

/* Writes what can be written. Returns false when that failed, and the channel is closed. */
static bool write_out(struct channel *channel)
{
    int r = framed_write(&channel->framed);
    if (r < 0)
        on_channel_failed(&channel->framed, FRAMED_WRITING, r);
    return r == 0;
}

/*
 * Whether a channel has to stay because what is pushed would have no other one to go on. The front
 * reloads: it has said GOAWAY and reads on until we close, and the channels of its new shards are
 * not open yet. A front that stops opens none, so this has a limit.
 */
static bool awaits_other(const struct channel *channel)
{
    return channel->told != 0 && !channel->goaway_sent && channel->front != NULL &&
           channel->front->pushed && !front_stays(channel->front) &&
           uv_now(&channel->worker->loop) - channel->told < channel->worker->times.linger;
}

/*
 * Whether a channel that goes away has nothing left to do. Notifications in progress do not keep it
 * where it is the front that goes: it does not wait for them, and what their handlers send can go
 * on another channel. Where this worker goes, there will be none.
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
    struct framed *framed = &channel->framed;
    if (!list_empty(&channel->waiting) && framed_has_half(framed))
        call_drained(channel);
    if (framed->paused && framed_has_half(framed))
        framed_resume(framed);
    if (channel->state == CHANNEL_CLOSED)
        return;
    if (buf_len(&framed->out) == 0 && framed->ended && !awaits_other(channel)) {
        channel_close(channel);
        return;
    }
    if (buf_len(&framed->out) == 0 && !framed->ended && !framed->paused && may_end(channel)) {
        call_orphan_all(channel); /* notifications: nothing more is sent for them */
        linger(channel);
    }
    framed_wait(framed);
}

char *channel_frame(struct channel *channel, const struct frame_head *head)
{
    char *room = framed_frame(&channel->framed, head);
    if (room == NULL) {
        log_error("shard %u: no memory for an answer: the channel is closed", channel->shard);
        channel_close(channel);
        return NULL;
    }
    channel_touch(channel);
    return room;
}

bool channel_has_room(struct channel *channel)
{
    /* Where writing fails, the channel is closed at the end of the turn, not in here. */
    struct framed *framed = &channel->framed;
    return buf_len(&framed->out) <= FRAMED_OUT_MAX ||
           (!holds(channel) && framed_write(framed) == 0 &&
               buf_len(&framed->out) <= FRAMED_OUT_MAX);
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
    /* Calls are not answered any more: what came before the violation cannot be trusted either. */
    call_orphan_all(channel);
    if (channel->state != CHANNEL_CLOSED && write_out(channel))
        buf_deinit(&channel->framed.out);
    if (channel->state != CHANNEL_CLOSED) {
        list_remove(&channel->dirty);
        linger(channel);
        framed_wait(&channel->framed);
    }
}

static void on_no_frame(struct framed *framed, int error, const char *p, size_t n)
{
    struct channel *channel = channel_of(framed);
    const char *guess = channel->state == CHANNEL_HELLO && n > 0 ? frame_guess(p, n) : NULL;
    channel_fail(channel, guess != NULL ? guess : frame_error_text(error));
}

/* The front has closed the channel, or its own direction only: then it still reads what waits. */
static void on_channel_ended(struct framed *framed)
{
    struct channel *channel = channel_of(framed);
    struct workerd *worker = channel->worker;
    if (channel->state == CHANNEL_LINGER) {
        channel_close(channel);
        return;
    }
    log_info("shard %u: the front closed the channel, %zu calls in progress", channel->shard,
        channel->ncalls);
    posts_run(&worker->posts); /* other threads were told that it would be sent */
    if (channel->state == CHANNEL_CLOSED)
        return;
    framed->ended = true;
    channel->since = uv_now(&worker->loop);
    call_orphan_all(channel);
    if (channel->state == CHANNEL_CLOSED)
        return;
    channel->going = true; /* what is pushed now goes on other channels */
    framed->paused = false;
    buf_deinit(&framed->in);
    channel_touch(channel);
    worker_due(worker, channel->since + worker->times.dead);
}

static void on_heard(struct framed *framed)
{
    struct channel *channel = channel_of(framed);
    channel->heard = uv_now(&channel->worker->loop);
    if (UNLIKELY(channel->pinged)) {
        channel->pinged = false;
        worker_due(channel->worker, channel->heard + channel->worker->times.ping);
    }
}

static void on_frame(struct framed *framed, const struct frame *frame)
{
    struct channel *channel = channel_of(framed);
    channel->worker->ops->frame(channel, frame);
}

static void on_touched(struct framed *framed)
{
    channel_touch(channel_of(framed));
}

static const struct framed_ops channel_framed_ops = {
    .frame = on_frame,
    .no_frame = on_no_frame,
    .heard = on_heard,
    .ended = on_channel_ended,
    .failed = on_channel_failed,
    .touched = on_touched,
    .closed = on_channel_closed,
};

/*
 * Protocol section 10: a PING is sent after silence, and the channel closed if nothing comes then.
 */
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

/* A front that has closed its direction and does not read either is as dead as a silent one. */
static uint64_t tick_ended(struct channel *channel, uint64_t now)
{
    uint64_t due = MAX(channel->since, channel->framed.wrote) + channel->worker->times.dead;
    if (now < due)
        return due;
    log_warning("shard %u: the front does not read the last %zu bytes: the channel is closed",
        channel->shard, buf_len(&channel->framed.out));
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
        due = channel->framed.ended ? tick_ended(channel, now) : tick_open(channel, now);
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
    int r = framed_open(&channel->framed, worker, fd, &channel_framed_ops);
    if (r < 0) {
        idmap_deinit(&channel->pending);
        mem_free(channel);
        return r;
    }
    channel->worker = worker;
    channel->heard = uv_now(&worker->loop);
    channel->serial = ++worker->last_serial;
    list_init(&channel->dirty);
    list_init(&channel->of_front);
    list_init(&channel->calls);
    list_init(&channel->waiting);
    list_append(&worker->channels, &channel->node);
    worker->nchannels++;
    worker_due(worker, channel->heard + worker->times.hello);
    return 0;
}
