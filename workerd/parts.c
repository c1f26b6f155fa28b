/*
 * Bodies in parts, as handlers see them (protocol section 8): windows that are given back, and
 * answers that are sent as far as windows go. They begin in http.c; what comes in is in call.c.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "workerd/call.h"

void workerd_took(struct workerd_call *call, size_t n)
{
    struct channel *channel = call->channel;
    if (call->stream == NULL)
        return;
    uint32_t bytes = stream_took(call->stream, n);
    if (bytes == 0 || !call_is_heard(call) || workerd_call_cancelled(call))
        return;
    char body[32];
    struct frame_head head = {.type = FRAME_WINDOW, .call = call->node.id};
    head.length = (uint32_t)snprintf(body, sizeof(body), "{\"bytes\":%u}", bytes);
    char *payload = channel_frame(channel, &head);
    if (payload != NULL)
        memcpy(payload, body, head.length);
}

/* Whether the channel takes more; where it does not, the stream is told when it does. */
static bool has_room(struct stream *stream)
{
    struct channel *channel = stream->call->channel;
    if (channel_has_room(channel))
        return true;
    if (list_empty(&stream->waiting))
        list_append(&channel->waiting, &stream->waiting);
    return false;
}

size_t workerd_http_room(struct workerd_call *call)
{
    struct stream *stream = call->stream;
    if (stream == NULL || !stream->begun || !call_is_heard(call) || workerd_call_cancelled(call) ||
        !has_room(stream))
        return 0;
    return MIN(stream->room, (uint32_t)WORKERD_PART_MAX);
}

/* Writes a DATA. Returns 0 or -ENOMEM, with the channel as it was. */
static int write_data(const struct workerd_call *call, const char *p, size_t n)
{
    struct frame_head head = {
        .call = call->node.id,
        .conn = call->conn.id,
        .length = (uint32_t)n,
        .blob_len = (uint32_t)n,
        .type = FRAME_DATA,
        .flags = FRAME_F_MORE,
    };
    char *payload = framed_frame(&call->channel->framed, &head);
    if (payload == NULL)
        return -ENOMEM;
    memcpy(payload, p, n);
    call->stream->room -= (uint32_t)n;
    channel_touch(call->channel);
    return 0;
}

int workerd_http_send(struct workerd_call *call, const void *part, size_t n)
{
    struct stream *stream = call->stream;
    if (stream == NULL || !stream->begun)
        return -EINVAL;
    if (!call_is_heard(call) || workerd_call_cancelled(call))
        return -ECANCELED;
    if (n == 0)
        return 0;
    if (n > WORKERD_PART_MAX)
        return -EMSGSIZE;
    if (n > stream->room || !has_room(stream))
        return -ENOBUFS;
    size_t most = call->channel->peer_max_frame;
    int r = 0;
    for (size_t at = 0; at < n && r == 0; at += most)
        r = write_data(call, (const char *)part + at, MIN(n - at, most));
    return r;
}

void workerd_http_end(struct workerd_call *call)
{
    if (call->stream == NULL || !call->stream->begun) {
        workerd_fail(call, WORKERD_INTERNAL_ERROR, "the answer was not begun", NULL, 0);
        return;
    }
    if (workerd_call_cancelled(call)) {
        workerd_fail(call, WORKERD_CANCELLED, "cancelled", NULL, 0);
        return;
    }
    call->on_cancel = NULL; /* it ends here, whatever becomes of the channel */
    if (call_is_heard(call))
        channel_frame(call->channel,
            &(struct frame_head){.type = FRAME_DATA, .call = call->node.id, .conn = call->conn.id});
    call_end(call);
}
