/*
 * An answer's HEADERS go out at once, and so does its body, where all of it may be sent now. Else
 * the body waits in its stream, and http2_fill() puts one DATA frame of each such stream after the
 * other into client->out, as far as the client's windows allow. What waits counts in
 * client->held_back, so that no more requests are started than what write_buffer has room for.
 */

#include <string.h>

#include "frontd/codec/h2_reply.h"
#include "frontd/shard/session/http2_session.h"

void http2_finish_stream(struct http2_stream *stream)
{
    struct client *client = stream->client;
    if (!stream->h2.remote_closed) { /* RFC 9113 section 8.1 */
        http2_reset(client, stream->h2.id, stream, H2_NO_ERROR);
        return;
    }
    h2_conn_close(&client->http2->conn, &stream->h2);
    http2_drop(stream);
}

char *http2_put_data(struct http2_stream *stream, uint32_t n, bool last)
{
    struct client *client = stream->client;
    uint8_t head[H2_HEAD_SIZE];
    char *room = client_room(client, H2_HEAD_SIZE + (size_t)n);
    if (room == NULL)
        return NULL;
    h2_write_head(head, n, H2_DATA, last ? H2_FLAG_END_STREAM : 0, stream->h2.id);
    memcpy(room, head, sizeof(head));
    h2_conn_sent(&client->http2->conn, &stream->h2, n);
    return room + sizeof(head);
}

bool http2_put_bytes(struct http2_stream *stream, const char *p, uint32_t n, bool last)
{
    char *room = http2_put_data(stream, n, last);
    if (room != NULL)
        memcpy(room, p, n);
    return room != NULL;
}

bool http2_put_head(struct client *client, const struct h2_reply *reply, uint32_t stream)
{
    struct h2_conn *conn = &client->http2->conn;
    char *room = buf_room(&client->out, h2_reply_room(reply, H2_FRAME_MAX));
    client_touch(client);
    if (room == NULL) {
        client_doom(client);
        return false;
    }
    size_t n = h2_reply_write((uint8_t *)room, reply, stream, H2_FRAME_MAX, ctx_date(client->ctx));
    buf_added(&client->out, n);
    conn->tells_table = false;
    return true;
}

bool http2_keep(struct http2_stream *stream, struct span bytes)
{
    if (buf_append(&stream->body, bytes.p, bytes.n) < 0) {
        client_doom(stream->client);
        return false;
    }
    stream->client->held_back += (uint32_t)bytes.n;
    return true;
}

static void send_answer(struct http2_stream *stream, const struct h2_reply *head, struct span body)
{
    struct client *client = stream->client;
    bool at_once = buf_len(&client->out) < HTTP2_OUT &&
                   body.n <= h2_conn_sendable(&client->http2->conn, &stream->h2);
    if (!http2_put_head(client, head, stream->h2.id))
        return;
    if (body.n == 0 || (at_once && http2_put_bytes(stream, body.p, (uint32_t)body.n, true)))
        http2_finish_stream(stream);
    else if (!at_once && http2_keep(stream, body))
        http2_set_state(stream, HTTP2_ANSWERS);
}

struct h2_reply http2_head_of(
    const struct request *request, const struct reply *reply, uint64_t length)
{
    return (struct h2_reply){
        .status = reply->status,
        .tells_table = request->client->http2->conn.tells_table,
        .content_length = length,
        .content_type = reply->content_type,
        .fields = reply->fields,
        .cors = request->page == NULL ? (struct span){0} : *request->page,
        .id = mark_field(request->mark),
    };
}

void http2_reply(struct request *request, const struct reply *reply)
{
    struct http2_stream *stream = http2_turn(request)->stream;
    bool reset = reply->status == 205; /* RFC 9110 section 15.3.6: it says that nothing follows */
    bool no_body = stream->is_head || reply_is_bodiless(reply->status);
    bool has_length = reply->has_length && (stream->is_head || reply->status == 304);
    uint64_t length = has_length ? reply->length : reply->body.n;
    struct span body = no_body ? (struct span){0} : reply->body;
    struct h2_reply head = http2_head_of(request, reply, reset ? 0 : length);
    head.end_stream = body.n == 0;
    head.no_length = reply->status == 204 || (reply->status == 304 && !has_length) ||
                     reply->no_length;
    stream->request = NULL;
    http2_turn(request)->stream = NULL;
    if (stream->is_connect) { /* nothing of what has come is for anything any more */
        stream->client->http2->held -= stream->body.size;
        buf_deinit(&stream->body);
    }
    send_answer(stream, &head, body);
    request_free(request);
}

/* One DATA frame of the stream, which may be gone afterwards; else it is the last in its turn. */
static void send_some(struct http2_stream *stream, uint32_t sendable)
{
    struct client *client = stream->client;
    size_t left = buf_len(&stream->body);
    uint32_t n = (uint32_t)MIN((size_t)sendable, left);
    bool ends = stream->state == HTTP2_ANSWERS;
    if (!http2_put_bytes(stream, buf_data(&stream->body), n, n == left && ends))
        return;
    buf_consume(&stream->body, n);
    client->held_back -= n;
    stream->moved += n;
    list_remove(&stream->sending);
    if (n < left)
        list_append(&client->http2->sending, &stream->sending);
    if (n == left && ends)
        http2_finish_stream(stream);
}

void http2_fill(struct client *client)
{
    struct http2 *http2 = client->http2;
    bool more = true;
    while (more && client->state == CLIENT_OPEN) {
        more = false; /* until a stream of this round has sent something */
        list_for_each_safe (node, &http2->sending) {
            struct http2_stream *stream = container_of(node, struct http2_stream, sending);
            uint32_t sendable = h2_conn_sendable(&http2->conn, &stream->h2);
            if (buf_len(&client->out) >= HTTP2_OUT || client->state != CLIENT_OPEN)
                return;
            if (sendable == 0)
                continue;
            if (stream->state == HTTP2_SOCKET)
                http2_socket_send(stream);
            else
                send_some(stream, sendable);
            more = true;
        }
    }
}

bool http2_has_more(const struct client *client)
{
    const struct http2 *http2 = client->http2;
    list_for_each (node, &http2->sending) {
        const struct http2_stream *stream = container_of(node, struct http2_stream, sending);
        if (h2_conn_sendable(&http2->conn, &stream->h2) > 0 &&
            (stream->state != HTTP2_SOCKET || http2_socket_has_more(stream)))
            return true;
    }
    return false;
}
