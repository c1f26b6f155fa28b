#include "workerd/dispatch.h"

#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "proto/hello.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"
#include "workerd/call.h"
#include "workerd/channel.h"
#include "workerd/front.h"
#include "workerd/worker.h"

static int write_hello(struct workerd *worker, struct buf *out)
{
    char *patterns[HELLO_METHODS_MAX];
    methods_patterns(&worker->methods, patterns);
    const struct hello_worker hello = {
        .name = worker->name,
        .responses = worker->asks.token,
        .methods = patterns,
        .nmethods = worker->methods.count,
        .has_methods = true,
        .pid = uv_os_getpid(),
        .concurrency = worker->concurrency,
        .max_frame = worker->max_frame,
        .push = true,
        .stream = true,
    };
    return hello_worker_write(out, &hello);
}

static void on_hello(struct channel *channel, const struct frame *frame)
{
    struct hello_peer peer;
    int r = hello_front_read(frame->body, &peer);
    if (r != 0) {
        channel_fail(channel, r == HELLO_E_VERSION ? "version" : "bad HELLO");
        return;
    }
    struct buf body = {0};
    if (write_hello(channel->worker, &body) < 0 || front_join(channel, peer.instance) < 0) {
        log_error("shard %u: no memory for HELLO: the channel is closed", peer.shard);
        buf_deinit(&body);
        channel_close(channel);
        return;
    }
    channel->shard = peer.shard;
    channel->peer_max_frame = peer.max_frame;
    channel->peer_state = peer.state;
    channel->state = CHANNEL_OPEN;
    worker_due(channel->worker, channel->heard + channel->worker->times.ping);
    struct frame_head head = {.type = FRAME_HELLO, .length = (uint32_t)buf_len(&body)};
    char *payload = channel_frame(channel, &head);
    if (payload != NULL)
        memcpy(payload, buf_data(&body), buf_len(&body));
    buf_deinit(&body);
    log_info("shard %u of %s (pool %s) is connected", peer.shard, peer.front, peer.pool);
}

/* Drops a frame that is wrong by itself (protocol section 11): where the next begins is known. */
static void drop(const struct channel *channel, const struct frame *frame, const char *what)
{
    log_warning(
        "shard %u: %s is dropped: %s", channel->shard, frame_type_text(frame->head.type), what);
}

static void on_request(struct channel *channel, const struct frame *frame)
{
    uint64_t number = frame->head.call;
    /* Section 7: a call that comes after our GOAWAY is given to another worker by the front. */
    if (channel->goaway_sent && number > channel->last_call)
        return;
    if (UNLIKELY((frame->head.flags & FRAME_F_MORE) && (frame->head.flags & FRAME_F_NOTIFY))) {
        drop(channel, frame, "notifications have no parts");
        return;
    }
    /* A notification may have number 0: no answer to it could be mistaken for another. */
    if (channel->pending.count > 0 && !(frame->head.flags & FRAME_F_NOTIFY) &&
        UNLIKELY(idmap_find(&channel->pending, number) != NULL)) {
        channel_fail(channel, "call id in use");
        return;
    }
    if (number > channel->last_call)
        channel->last_call = number;
    call_begin(channel, frame);
}

/* Protocol section 8: what comes of the body of a call that is over is thrown away. */
static void on_data(struct channel *channel, const struct frame *frame)
{
    uint64_t number = frame->head.call;
    struct workerd_call *call = call_find(channel, number);
    if (LIKELY(call != NULL && call->stream != NULL && call->stream->coming))
        call_data(call, frame);
    else if (call != NULL && !workerd_call_cancelled(call))
        drop(channel, frame, "the body of its call was complete");
    else if (call == NULL &&
             (number == 0 || (number > channel->last_call && !channel->goaway_sent)))
        drop(channel, frame, "there is no such call");
}

static void on_window(struct channel *channel, const struct frame *frame)
{
    static const struct span keys[] = {{"bytes", 5}};
    struct workerd_call *call = call_find(channel, frame->head.call);
    struct span body = frame->body;
    struct span found[1];
    int64_t bytes;
    if (call == NULL || body.n == 0 || body.p[0] != '{' ||
        json_scan_object(body.p, body.p + body.n, 0, keys, 1, found) == NULL ||
        json_read_integer(found[0], &bytes) != 0 || bytes <= 0)
        return;
    call_window(call, (uint64_t)bytes);
}

static void on_ping(struct channel *channel, const struct frame *frame)
{
    if (frame->body.n > FRAME_PING_MAX) {
        drop(channel, frame, "it has over 64 bytes");
        return;
    }
    struct frame_head head = {.type = FRAME_PONG, .length = (uint32_t)frame->body.n};
    char *payload = channel_frame(channel, &head);
    if (payload != NULL && frame->body.n > 0)
        memcpy(payload, frame->body.p, frame->body.n);
}

static void on_goaway(struct channel *channel, const struct frame *frame)
{
    char reason[64];
    uint64_t last_call;
    goaway_read(frame->body, reason, sizeof(reason), &last_call);
    log_info("shard %u: the front goes away (%s), %zu calls in progress", channel->shard, reason,
        channel->ncalls);
    channel->going = true;
    if (channel->told == 0) {
        channel->told = uv_now(&channel->worker->loop);
        worker_due(channel->worker, channel->told + channel->worker->times.linger);
    }
    channel_touch(channel);
}

void dispatch_frame(struct channel *channel, const struct frame *frame)
{
    uint8_t type = frame->head.type;
    if (LIKELY(type == FRAME_REQUEST && channel->state == CHANNEL_OPEN)) {
        on_request(channel, frame);
        return;
    }
    if (type >= FRAME_EXTENSION)
        return;
    if (channel->state == CHANNEL_HELLO) {
        if (type == FRAME_HELLO)
            on_hello(channel, frame);
        else if (type == FRAME_GOAWAY)
            on_goaway(channel, frame);
        else
            channel_fail(channel, "HELLO expected");
        return;
    }
    switch (type) {
    case FRAME_CANCEL: call_cancel(channel, frame->head.call); break;
    case FRAME_PING: on_ping(channel, frame); break;
    case FRAME_PONG: break;
    case FRAME_GOAWAY: on_goaway(channel, frame); break;
    case FRAME_DATA: on_data(channel, frame); break;
    case FRAME_WINDOW: on_window(channel, frame); break;
    default: drop(channel, frame, "a front does not send it now"); break;
    }
}
