/*
 * channel_dial() connects; on_stream_connected() sends HELLO and waits 5 s for the worker's; then
 * opened() comes. From then on calls go out with channel_send_call(), gathered and written once a
 * turn, and frames come in: each RESPONSE is looked up by its call id and given to the owner.
 *
 * A channel ends in lose(), once: the worker has closed it, or does not answer in time, or has
 * broken the protocol (then it is sent GOAWAY with the reason), or the owner shuts the channel.
 * lost() lets the owner settle the calls; closed() follows when libuv has let go of the handle.
 *
 * When connections have moved to other shards and this shard ends (channel_hang_up()), the worker
 * closes first. That this shard closes too tells the worker that all shards have heard what it
 * pushed here: what it pushes on another channel from then on comes after that.
 */

#include "frontd/shard/upstream/channel.h"

#include <endian.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"

static struct channel *channel_of(struct stream *stream)
{
    return container_of(stream, struct channel, stream);
}

#define TO(state) (1U << (state))

bool channel_may_become(enum channel_state from, enum channel_state to)
{
    static const unsigned moves[CHANNEL_STATES] = {
        [CHANNEL_CLOSED] = TO(CHANNEL_CONNECTING),
        [CHANNEL_CONNECTING] = TO(CHANNEL_GREETING) | TO(CHANNEL_CLOSING),
        [CHANNEL_GREETING] = TO(CHANNEL_OPEN) | TO(CHANNEL_CLOSING),
        [CHANNEL_OPEN] = TO(CHANNEL_LEAVING) | TO(CHANNEL_CLOSING),
        /* Again: both sides may say GOAWAY. */
        [CHANNEL_LEAVING] = TO(CHANNEL_LEAVING) | TO(CHANNEL_CLOSING),
        [CHANNEL_CLOSING] = TO(CHANNEL_CLOSED),
    };
    return moves[from] & TO(to);
}

/* The only assignment of the state. */
static void set_state(struct channel *channel, enum channel_state state)
{
    CHECK(channel_may_become(channel->state, state));
    channel->state = state;
}

int channel_init(
    struct channel *channel, struct ctx *ctx, const struct channel_ops *ops, const char *pool)
{
    *channel = (struct channel){.ctx = ctx, .ops = ops, .pool = pool};
    wheel_timer_init(&channel->timer, TIMER_CHANNEL);
    return idmap_init(&channel->calls);
}

void channel_deinit(struct channel *channel)
{
    CHECK(channel->state == CHANNEL_CLOSED);
    idmap_deinit(&channel->calls);
}

static void lose(struct channel *channel, const char *why)
{
    if (channel->state == CHANNEL_CLOSING)
        return;
    set_state(channel, CHANNEL_CLOSING);
    wheel_disarm(&channel->timer);
    channel->ops->lost(channel, why);
    CHECK(channel->calls.count == 0);
    stream_close(&channel->stream);
}

static void send_frame(
    struct channel *channel, enum frame_type type, uint64_t call, struct span body)
{
    struct frame_head head = {.type = (uint8_t)type, .call = call, .length = (uint32_t)body.n};
    char *room = stream_add(&channel->stream, &head);
    if (room == NULL) {
        stream_fail(&channel->stream, "no memory");
        channel->said_goaway = true; /* nothing may follow: the lost frame may be HELLO */
    } else if (body.n > 0) {
        memcpy(room, body.p, body.n);
    }
}

void channel_data(struct channel *channel, uint64_t call, struct span bytes, bool more)
{
    struct frame_head head = {
        .type = FRAME_DATA,
        .flags = more ? FRAME_F_MORE : 0,
        .call = call,
        .length = (uint32_t)bytes.n,
        .blob_len = (uint32_t)bytes.n,
    };
    char *room = stream_add(&channel->stream, &head);
    if (room == NULL)
        stream_fail(&channel->stream, "no memory");
    else if (bytes.n > 0)
        memcpy(room, bytes.p, bytes.n);
}

static void send_goaway(struct channel *channel, const char *reason)
{
    struct buf body = {0};
    if (!channel->said_goaway && goaway_write(&body, reason, -1) == 0)
        send_frame(channel, FRAME_GOAWAY, 0, (struct span){buf_data(&body), buf_len(&body)});
    channel->said_goaway = true;
    buf_deinit(&body);
}

/*
 * Ends a channel on which what follows cannot be understood (protocol section 11): the worker is
 * told why, and its calls are lost. A frame that is wrong by itself costs only that frame, or its
 * call: see ops->refused().
 */
static void refuse(struct channel *channel, const char *reason)
{
    send_goaway(channel, reason);
    stream_flush(&channel->stream);
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
        .stream = true,
        .state = channel->ctx->conf->limits.state,
    };
    struct buf body = {0};
    if (hello_front_write(&body, &hello) < 0) {
        lose(channel, "no memory");
        return;
    }
    set_state(channel, CHANNEL_GREETING);
    send_frame(channel, FRAME_HELLO, 0, (struct span){buf_data(&body), buf_len(&body)});
    buf_deinit(&body);
}

/* How long a worker may be silent, ms, until it is sent a PING; while calls wait. */
static uint64_t ping_after(const struct channel *channel)
{
    return MAX(channel->timeout / CHANNEL_PING_PART, 1U);
}

/*
 * Arms the timer for the next look whether the worker lives: `at` that time (ms; 0: none is known),
 * or earlier, since calls that come until then have shorter limits.
 */
static void look_later(struct channel *channel, uint64_t at)
{
    uint64_t now = ctx_now(channel->ctx);
    uint64_t latest = now + MIN((uint64_t)CHANNEL_QUIET_MS, ping_after(channel));
    channel->due = at == 0 ? latest : MAX(MIN(at, latest), now + 1);
    wheel_arm(&channel->ctx->wheel, &channel->timer, channel->due);
}

static void on_hello(struct channel *channel, const struct frame *frame)
{
    struct hello_worker hello;
    if (channel->state != CHANNEL_GREETING) {
        channel->ops->refused(channel, &frame->head, "HELLO has come before");
        return;
    }
    int r = hello_worker_read(frame->body, &hello);
    if (r != 0) {
        refuse(channel, r == HELLO_E_VERSION ? "version" : "bad HELLO");
        return;
    }
    set_state(channel, CHANNEL_OPEN);
    channel->max_frame = hello.max_frame;
    channel->pushes = hello.push;
    channel->streams = hello.stream;
    channel->ops->opened(channel, &hello);
    hello_worker_deinit(&hello);
    if (channel->state == CHANNEL_OPEN)
        look_later(channel, 0);
}

static void on_goaway(struct channel *channel, const struct frame *frame)
{
    char reason[128];
    uint64_t last_call;
    goaway_read(frame->body, reason, sizeof(reason), &last_call);
    if (channel->state == CHANNEL_GREETING) {
        lose(channel, reason); /* as "version": the worker wants no channel */
        return;
    }
    set_state(channel, CHANNEL_LEAVING);
    channel->ops->leaving(channel, reason, last_call);
}

/* RESPONSE and DATA are for a call in progress, or are refused. */
static void on_answer(struct channel *channel, const struct frame *frame)
{
    struct idmap_node *call = idmap_find(&channel->calls, frame->head.call);
    if (LIKELY(call != NULL))
        channel->ops->frame(channel, call, frame);
    else
        channel->ops->refused(channel, &frame->head, "the call is not in progress");
}

/* What is wrong has no effect (protocol section 11). */
static void on_window(struct channel *channel, const struct frame *frame)
{
    static const struct span keys[] = {{"bytes", 5}};
    struct idmap_node *call = idmap_find(&channel->calls, frame->head.call);
    struct span found[1];
    int64_t bytes;
    if (call == NULL || frame->body.n == 0 || frame->body.p[0] != '{' ||
        json_scan_object(frame->body.p, frame->body.p + frame->body.n, 0, keys, 1, found) == NULL ||
        json_read_integer(found[0], &bytes) != 0 || bytes <= 0)
        return;
    channel->ops->window(channel, call, (uint32_t)MIN(bytes, (int64_t)UINT32_MAX));
}

static void on_frame(struct channel *channel, const struct frame *frame)
{
    bool greeted = channel->state != CHANNEL_GREETING;
    switch (frame->head.type) {
    case FRAME_HELLO: on_hello(channel, frame); return;
    case FRAME_GOAWAY: on_goaway(channel, frame); return;
    case FRAME_PING:
        if (frame->body.n > FRAME_PING_MAX)
            channel->ops->refused(channel, &frame->head, "it has over 64 bytes");
        else if (buf_len(&channel->stream.out) < CHANNEL_BACKLOG_MAX && /* else it does not read */
                 !channel->hung_up && channel->asked == 0)
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
    case FRAME_CANCEL:
        if (greeted) {
            channel->ops->refused(channel, &frame->head, "only a front sends it");
            return;
        }
        break;
    case FRAME_PUSH:
    case FRAME_PUBLISH:
    case FRAME_SUBSCRIBE:
    case FRAME_UNSUBSCRIBE:
    case FRAME_DISCONNECT:
        if (greeted) {
            channel->ops->pushed(channel, frame);
            return;
        }
        break;
    case FRAME_STATE:
        if (greeted)
            channel->ops->pushed(channel, frame);
        return;
    case FRAME_WINDOW: on_window(channel, frame); return;
    default: return; /* extensions are skipped (section 2) */
    }
    refuse(channel, "HELLO comes first");
}

/*
 * A frame over max_frame costs itself, or its call. But HELLO, what comes before it, and GOAWAY
 * decide on the channel, which ends.
 */
static bool on_stream_too_long(struct stream *stream, const struct frame_head *head)
{
    struct channel *channel = channel_of(stream);
    struct idmap_node *call = NULL;
    if (channel->state == CHANNEL_GREETING || head->type == FRAME_GOAWAY)
        return false;
    if (head->type == FRAME_RESPONSE || head->type == FRAME_DATA)
        call = idmap_find(&channel->calls, head->call);
    if (call != NULL)
        channel->ops->too_long(channel, call, head);
    else
        channel->ops->refused(channel, head, "it is over max_frame");
    return true;
}

static void on_stream_frame(struct stream *stream, const struct frame *frame)
{
    on_frame(channel_of(stream), frame);
}

/* Whether the worker is to close the channel first: see channel_hang_up(). */
static bool waits_for_worker(const struct channel *channel)
{
    return channel->ctx->leaving && channel->said_goaway && !channel->hung_up &&
           channel->state == CHANNEL_LEAVING && channel->calls.count == channel->orphans;
}

/* The stream has ended or is broken. A worker that has broken it is told why by GOAWAY. */
static void on_stream_broken(struct stream *stream, const char *why)
{
    struct channel *channel = channel_of(stream);
    if (channel->state == CHANNEL_CONNECTING)
        lose(channel, why);
    else if (stream->ended && waits_for_worker(channel))
        channel->asked = channel->asked != 0 ? channel->asked
                                             : channel->ctx->fence->raise(channel->ctx);
    else
        refuse(channel, why);
}

static void on_stream_closed(struct stream *stream)
{
    struct channel *channel = channel_of(stream);
    set_state(channel, CHANNEL_CLOSED);
    channel->ops->closed(channel);
}

static void on_stream_connected(struct stream *stream)
{
    struct channel *channel = channel_of(stream);
    ctx_arm(channel->ctx, &channel->timer, CHANNEL_HELLO_MS);
    send_hello(channel);
}

static void on_stream_drained(struct stream *stream)
{
    struct channel *channel = container_of(stream, struct channel, stream);
    channel->ops->drained(channel);
}

static const struct stream_ops stream_ops = {
    .frame = on_stream_frame,
    .too_long = on_stream_too_long,
    .broken = on_stream_broken,
    .closed = on_stream_closed,
    .connected = on_stream_connected,
    .drained = on_stream_drained,
};

/* Opens the stream of a socket that is being connected. fd: consumed. Returns 0 or -errno. */
static int open_stream(struct channel *channel, int fd)
{
    struct ssl_st *tls = NULL;
    if (channel->tls != NULL) {
        tls = stream_tls_new(channel->tls, fd, channel->server_name);
        if (tls == NULL) {
            close(fd);
            return -ENOMEM;
        }
    }
    int r = stream_open(&channel->stream, channel->ctx, &stream_ops, fd, true);
    if (r == 0)
        stream_use_tls(&channel->stream, tls);
    else
        stream_tls_free(tls);
    return r;
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
    if (connect(fd, address, len) < 0 && errno != EINPROGRESS) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = open_stream(channel, fd);
    if (r < 0)
        return r;
    set_state(channel, CHANNEL_CONNECTING);
    channel->last_id = 0;
    channel->pinged_at = 0;
    channel->said_goaway = channel->hung_up = channel->hung = channel->mute = false;
    channel->overdue = false;
    channel->left = 0;
    channel->orphans = 0;
    channel->quiet = channel->asked = 0;
    ctx_arm(
        channel->ctx, &channel->timer, channel->dial_ms == 0 ? CHANNEL_HELLO_MS : channel->dial_ms);
    return 0;
}

int channel_send_call(struct channel *channel, struct idmap_node *call, struct buf *frame,
    bool notify, uint64_t *ret_end)
{
    size_t n = buf_len(frame);
    if (n - FRAME_HEAD_SIZE > channel->max_frame)
        return -EMSGSIZE;
    char *sent = stream_add_raw(&channel->stream, buf_data(frame), n);
    if (sent == NULL)
        return -ENOMEM;
    if (channel->calls.count == channel->orphans)
        channel->busy_at = ctx_now(channel->ctx);
    call->id = ++channel->last_id;
    uint64_t id = htobe64(call->id);
    memcpy(sent + 8, &id, sizeof(id)); /* the call's place in the header (protocol section 2) */
    *ret_end = channel->stream.appended;
    if (!notify)
        idmap_add(&channel->calls, call);
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
    set_state(channel, CHANNEL_LEAVING);
    send_goaway(channel, "shutdown");
}

/*
 * Whether a worker that is to close the channel has had its time. Nothing is lost then: this shard
 * has no connections any more, and what the worker pushes is heard on its other channels.
 */
static bool is_overdue(struct channel *channel)
{
    uint64_t now = ctx_now(channel->ctx);
    if (channel->left == 0)
        channel->left = now;
    return now - MAX(channel->left, channel->stream.heard_at) >= CHANNEL_LEFT_MS ||
           now - channel->left >= CHANNEL_LEFT_MAX_MS;
}

void channel_hang_up(struct channel *channel)
{
    struct stream *stream = &channel->stream;
    if (channel->state == CHANNEL_CONNECTING || channel->state == CHANNEL_GREETING)
        channel_shut(channel, "shutdown");
    if (channel->state == CHANNEL_OPEN)
        channel_leave(channel);
    if (channel->state == CHANNEL_LEAVING && is_overdue(channel)) {
        channel->overdue = stream->given_up = true;
        lose(channel, "it has not closed it");
    }
    if (channel->state != CHANNEL_LEAVING || channel->hung_up ||
        channel->calls.count > channel->orphans || buf_len(&stream->out) > 0)
        return;
    uint64_t now = ctx_now(channel->ctx);
    if (channel->asked != 0) {
        if (channel->ctx->fence->passed(channel->ctx, channel->asked))
            lose(channel, "the worker has closed it");
        return;
    }
    if (channel->pushes && channel->quiet == 0) {
        channel->quiet = now;
        ctx_arm(channel->ctx, &channel->timer, CHANNEL_WAIT_MS);
    }
    if (channel->pushes && now - channel->quiet < CHANNEL_WAIT_MS)
        return;
    channel->hung_up = true;
    int r = stream_shut(stream);
    if (r < 0)
        stream_fail(stream, log_error_text(r));
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

void channel_give_up(struct channel *channel)
{
    if (channel->state != CHANNEL_OPEN && channel->state != CHANNEL_LEAVING)
        return;
    channel->hung = channel->stream.given_up = true;
    lose(channel, "it does not answer");
}

static void send_ping(struct channel *channel)
{
    channel->pinged_at = ctx_now(channel->ctx);
    if (channel->hung_up || channel->asked != 0)
        return;
    send_frame(channel, FRAME_PING, 0, (struct span){0});
    channel->ping_end = channel->stream.appended;
    channel->ping_seen = channel->stream.written;
}

/*
 * The time for PONG begins anew:
 * - where the worker has not been able to read the PING yet: it has taken some of the bytes before
 *   it, but not all;
 * - where this process was held up for longer than `part` (ms), since the worker may have been,
 *   too: it is sent another PING.
 */
static void excuse(struct channel *channel, uint64_t now, uint64_t part)
{
    const struct stream *stream = &channel->stream;
    if (stream->written < channel->ping_end && stream->written != channel->ping_seen)
        channel->pinged_at = now;
    channel->ping_seen = stream->written;
    if (now > channel->due + part)
        send_ping(channel);
}

/*
 * Protocol section 10: PING after a silence, and the end where nothing comes after that. Both times
 * are shorter while calls wait for the worker, and are counted from when those began to. A channel
 * that is not read at present is not judged.
 */
static void check_alive(struct channel *channel)
{
    uint64_t now = ctx_now(channel->ctx);
    uint64_t from = channel->stream.heard_at;
    uint64_t quiet = CHANNEL_QUIET_MS;
    uint64_t dead = CHANNEL_DEAD_MS;
    uint64_t awaited = channel->hung_up || channel->asked != 0 ? 0 : channel->ops->awaited(channel);
    if (channel->stream.deaf || stream_occupied(&channel->stream)) {
        look_later(channel, 0);
        return;
    }
    if (awaited != 0 && awaited != CHANNEL_MAY_BE_SILENT) {
        from = MAX(from, awaited);
        quiet = ping_after(channel);
        dead = MAX(channel->timeout - quiet, 1U);
    }
    bool pinged = channel->pinged_at > channel->stream.heard_at;
    if (pinged)
        excuse(channel, now, quiet);
    uint64_t end = MAX(from + quiet, channel->pinged_at) + dead;
    if (pinged && now >= end && awaited != CHANNEL_MAY_BE_SILENT) {
        channel_give_up(channel);
        return;
    }
    if (!pinged && now >= from + quiet) {
        send_ping(channel);
        end = now + dead;
        pinged = true;
    }
    look_later(channel, pinged ? end : from + quiet);
}

void channel_timeout(struct wheel_timer *timer)
{
    struct channel *channel = container_of(timer, struct channel, timer);
    switch (channel->state) {
    case CHANNEL_CONNECTING: lose(channel, "connecting took too long"); break;
    case CHANNEL_GREETING:
        channel->mute = channel->stream.given_up = true;
        refuse(channel, "no HELLO in time");
        break;
    case CHANNEL_OPEN:
    case CHANNEL_LEAVING: check_alive(channel); break;
    default: break;
    }
}
