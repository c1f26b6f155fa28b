/*
 * What is sent about connections that stay (protocol section 9).
 *
 * In the loop's thread: send_now() finds the channel (for PUBLISH one of each front) and puts the
 * frame behind what that channel has to say already, so that the order is that of the calls. From
 * another thread: send_later() copies and posts, and on_late() does the same in the loop.
 *
 * Too much waits for a front that does not read: -ENOBUFS. Other threads get it a little earlier,
 * when any channel is half full, so that what they have posted by then still fits.
 */

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "common/utf8.h"
#include "proto/close_code.h"
#include "proto/json_quote.h"
#include "workerd/call.h"
#include "workerd/channel.h"
#include "workerd/front.h"
#include "workerd/worker.h"

enum {
    TOPIC_MAX = 255,  /* bytes: what a front accepts */
    REASON_MAX = 123, /* bytes: a control frame's 125 and the code (RFC 6455, 5.5.1) */
    META_MAX = 64 + TOPIC_MAX * JSON_QUOTE_FACTOR,
    LATE_MAX = 2 * 1024 * 1024, /* bytes that other threads may post ahead: half of a channel's */
};

struct message {
    struct workerd_conn conn; /* of PUBLISH: after what was sent about it; or zeroed */
    enum frame_type type;
    uint8_t flags;
    bool is_blob; /* data is the blob, and not the body */
    struct span meta;
    struct span data;
};

static int put(struct front *front, const struct message *message)
{
    struct span meta = message->meta;
    struct span data = message->data;
    struct channel *channel = front_channel(front, message->conn.channel);
    if (channel == NULL)
        return -ENOTCONN;
    if (data.n > channel->peer_max_frame || meta.n + data.n > channel->peer_max_frame)
        return -EMSGSIZE;
    if (message->type == FRAME_STATE && data.n > channel->peer_state)
        return -EMSGSIZE;
    if (!channel_has_room(channel))
        return -ENOBUFS;
    struct frame_head head = {
        .conn = message->type == FRAME_PUBLISH ? 0 : message->conn.id,
        .length = (uint32_t)(meta.n + data.n),
        .meta_len = (uint32_t)meta.n,
        .blob_len = message->is_blob ? (uint32_t)data.n : 0,
        .type = (uint8_t)message->type,
        .flags = message->flags,
    };
    char *to = channel_frame(channel, &head);
    if (to == NULL)
        return -ENOMEM;
    if (meta.n > 0)
        memcpy(to, meta.p, meta.n);
    if (data.n > 0)
        memcpy(to + meta.n, data.p, data.n);
    front->pushed = true;
    return 0;
}

/* On one channel of each front, since a front does not know of the others. */
static int publish(struct workerd *worker, const struct message *message)
{
    int result = -ENOTCONN;
    list_for_each (node, &worker->fronts) {
        int r = put(container_of(node, struct front, node), message);
        if (r == -ENOMEM)
            return r; /* the channel is closed, and its front may have gone with it */
        if (result != 0)
            result = r;
    }
    return result;
}

static int send_now(struct workerd *worker, const struct message *message)
{
    if (message->type == FRAME_PUBLISH)
        return publish(worker, message);
    struct front *front = front_find(worker, message->conn.front);
    return front == NULL ? -ENOTCONN : put(front, message);
}

struct late {
    struct workerd *worker;
    struct message message;
    char bytes[]; /* meta and data */
};

static size_t late_size(const struct message *message)
{
    return sizeof(struct late) + message->meta.n + message->data.n;
}

static void on_late(void *data)
{
    struct late *late = data;
    struct workerd *worker = late->worker;
    atomic_fetch_sub(&worker->late, late_size(&late->message));
    int r = send_now(worker, &late->message);
    free(late);
    if (r == 0)
        return;
    worker->lost++;
    if ((worker->lost & (worker->lost - 1)) == 0)
        log_warning("%zu messages of other threads could not be sent, the last one: %s",
            worker->lost, strerror(-r));
}

static int send_later(struct workerd *worker, const struct message *message)
{
    if (atomic_load(&worker->nopen) == 0)
        return -ENOTCONN;
    if (message->data.n > UINT32_MAX)
        return -EMSGSIZE;
    if (atomic_load(&worker->nfull) > 0)
        return -ENOBUFS;
    size_t n = late_size(message);
    size_t before = atomic_fetch_add(&worker->late, n);
    int r = before > 0 && before + n > LATE_MAX ? -ENOBUFS : 0;
    struct late *late = r == 0 ? malloc(n) : NULL; /* mem_get() has no locks */
    if (late != NULL) {
        late->worker = worker;
        late->message = *message;
        late->message.meta.p = late->bytes;
        late->message.data.p = late->bytes + message->meta.n;
        if (message->meta.n > 0)
            memcpy(late->bytes, message->meta.p, message->meta.n);
        if (message->data.n > 0)
            memcpy(late->bytes + message->meta.n, message->data.p, message->data.n);
        r = workerd_post(worker, on_late, late);
    } else if (r == 0) {
        r = -ENOMEM;
    }
    if (r < 0) {
        free(late);
        atomic_fetch_sub(&worker->late, n);
    }
    return r;
}

static int send_message(struct workerd *worker, const struct message *message)
{
    if (message->type != FRAME_PUBLISH && message->conn.id == 0)
        return -EINVAL;
    return uv_thread_self() == atomic_load(&worker->thread) ? send_now(worker, message)
                                                            : send_later(worker, message);
}

/* {"topic":…}. Returns 0, or -EINVAL for what is none. */
static int write_topic(const char *topic, char out[static META_MAX], struct span *ret_meta)
{
    static const struct span key = {"{\"topic\":", 9};
    size_t n = strnlen(topic, TOPIC_MAX + 1);
    if (n == 0 || n > TOPIC_MAX || !utf8_valid(topic, n))
        return -EINVAL;
    memcpy(out, key.p, key.n);
    size_t end = key.n + json_quote_write(topic, n, out + key.n);
    out[end++] = '}';
    *ret_meta = (struct span){out, end};
    return 0;
}

static int set_data(struct message *message, enum workerd_kind kind, const void *data, size_t n)
{
    if (kind == WORKERD_JSON && n == 0)
        return -EINVAL;
    message->data = (struct span){data, n};
    message->is_blob = kind != WORKERD_JSON;
    message->flags = kind == WORKERD_BINARY ? FRAME_F_BINARY : 0;
    return 0;
}

int workerd_push(struct workerd *worker, struct workerd_conn conn, enum workerd_kind kind,
    const void *data, size_t n)
{
    struct message message = {.type = FRAME_PUSH, .conn = conn};
    int r = set_data(&message, kind, data, n);
    return r < 0 ? r : send_message(worker, &message);
}

bool workerd_call_wants_progress(const struct workerd_call *call)
{
    return call->progress;
}

int workerd_progress(struct workerd_call *call, enum workerd_kind kind, const void *data, size_t n)
{
    struct message message = {.type = FRAME_PUSH};
    struct channel *channel = call->channel;
    int r = set_data(&message, kind, data, n);
    if (r < 0 || !call->progress)
        return r;
    if (!call_is_heard(call))
        return -ENOTCONN;
    if (n > channel->peer_max_frame)
        return -EMSGSIZE;
    if (!channel_has_room(channel))
        return -ENOBUFS;
    const struct frame_head head = {
        .call = call->node.id,
        .length = (uint32_t)n,
        .blob_len = message.is_blob ? (uint32_t)n : 0,
        .type = FRAME_PUSH,
        .flags = message.flags,
    };
    char *to = channel_frame(channel, &head);
    if (to == NULL)
        return -ENOMEM;
    if (n > 0)
        memcpy(to, data, n);
    return 0;
}

int workerd_publish(struct workerd *worker, const struct workerd_conn *after, const char *topic,
    enum workerd_kind kind, const void *data, size_t n)
{
    char meta[META_MAX];
    struct message message = {.type = FRAME_PUBLISH};
    if (after != NULL)
        message.conn = *after;
    int r = write_topic(topic, meta, &message.meta);
    if (r == 0)
        r = set_data(&message, kind, data, n);
    return r < 0 ? r : send_message(worker, &message);
}

int workerd_subscribe(struct workerd *worker, struct workerd_conn conn, const char *topic)
{
    char meta[META_MAX];
    struct message message = {.type = FRAME_SUBSCRIBE, .conn = conn};
    int r = write_topic(topic, meta, &message.meta);
    return r < 0 ? r : send_message(worker, &message);
}

int workerd_unsubscribe(struct workerd *worker, struct workerd_conn conn, const char *topic)
{
    char meta[META_MAX];
    struct message message = {.type = FRAME_UNSUBSCRIBE, .conn = conn};
    int r = topic == NULL ? 0 : write_topic(topic, meta, &message.meta);
    return r < 0 ? r : send_message(worker, &message);
}

int workerd_keep(struct workerd *worker, struct workerd_conn conn, const void *state, size_t n)
{
    const struct message message = {
        .type = FRAME_STATE, .conn = conn, .is_blob = true, .data = {state, n}};
    return send_message(worker, &message);
}

int workerd_disconnect(
    struct workerd *worker, struct workerd_conn conn, unsigned code, const char *reason)
{
    char meta[META_MAX];
    size_t n = reason == NULL ? 0 : strnlen(reason, REASON_MAX + 1);
    if (!close_code_valid(code) || n > REASON_MAX || (n > 0 && !utf8_valid(reason, n)))
        return -EINVAL;
    size_t end = (size_t)snprintf(meta, sizeof(meta), "{\"code\":%u,\"reason\":", code);
    end += json_quote_write(n > 0 ? reason : "", n, meta + end);
    meta[end++] = '}';
    const struct message message = {.type = FRAME_DISCONNECT, .conn = conn, .meta = {meta, end}};
    return send_message(worker, &message);
}
