/*
 * A header block is decoded whatever it is for, since the table goes on with it → it opens a stream
 * → DATA gathers in the stream → when all of it is there the request is started, at once or when
 * one may be.
 *
 * Each stream may send H2_WINDOW_DEFAULT bytes of its body, and the oldest of those that are not
 * complete as many as limits.body allows: so bodies of many streams come without waiting for each
 * other while they are small, and what they hold together stays bounded.
 */

#include <string.h>

#include "frontd/codec/h2_reply.h"
#include "frontd/shard/request/upload.h"
#include "frontd/shard/session/http2_session.h"

static struct h2_head head_scratch; /* of the request being looked at */

/* A further request of the client. NULL where there is no memory: the client is doomed. */
static struct request *add(struct http2_stream *stream)
{
    struct client *client = stream->client;
    struct request *request = request_add(client, NULL);
    if (request == NULL) {
        client_doom(client);
        return NULL;
    }
    http2_turn(request)->stream = stream;
    stream->request = request;
    http2_set_state(stream, HTTP2_CALLED);
    return request;
}

/* What the stream holds of its request is given up; the buffers are the caller's now. What has come
 * behind an extended CONNECT is no body of it, and stays. */
static void take_buffers(struct http2_stream *stream, struct buf *ret_head, struct buf *ret_body)
{
    *ret_head = stream->head;
    *ret_body = stream->is_connect ? (struct buf){0} : stream->body;
    stream->client->http2->held -= ret_head->size + ret_body->size;
    stream->head = (struct buf){0};
    if (!stream->is_connect)
        stream->body = (struct buf){0};
}

/* Appends to one of the stream's buffers, and counts what it holds. */
static bool hold(struct http2_stream *stream, struct buf *buf, const void *bytes, size_t n)
{
    uint32_t before = buf->size;
    bool room = n == 0 || buf_append(buf, bytes, n) == 0;
    stream->client->http2->held += buf->size - before;
    if (!room)
        client_doom(stream->client);
    return room;
}

/* Starts the request whose head is in head_scratch. The stream may be gone when this returns. */
static void start(struct http2_stream *stream, struct span body)
{
    struct request *request = add(stream);
    if (request == NULL)
        return;
    if (UNLIKELY(stream->is_upload)) {
        upload_begin(request, upload_most(stream->client, &head_scratch.http));
        stream->client->http2->uploads = true;
    }
    request_start(request, &head_scratch.http, body);
}

struct span http2_head_text(const struct http_head *http)
{
    return container_of(http, struct h2_head, http)->text;
}

/* It was right before, and is not held to limits again. */
const struct http_head *http2_head_again(struct span text)
{
    CHECK(h2_head_read(text, HTTP_FIELDS_MAX, &head_scratch) == 0);
    return &head_scratch.http;
}

/* Reads the head of a stream again. */
static void read_again(const struct buf *head)
{
    http2_head_again((struct span){buf_data(head), buf_len(head)});
}

static void start_held(struct http2_stream *stream)
{
    struct buf head, body;
    take_buffers(stream, &head, &body);
    read_again(&head);
    if (stream->is_upload) {
        stream->upload = body;
        stream->client->http2->held += body.size;
        start(stream, (struct span){0});
    } else {
        start(stream, (struct span){buf_data(&body), buf_len(&body)});
        buf_deinit(&body);
    }
    buf_deinit(&head);
}

void http2_start_waiting(struct client *client)
{
    struct http2 *http2 = client->http2;
    struct list *node = http2->conn.streams.next;
    while (http2->waiting > 0 && node != &http2->conn.streams && !http2->conn.failed &&
           client_may_start(client)) {
        struct http2_stream *stream = http2_stream_of(container_of(node, struct h2_stream, node));
        node = node->next;
        if (stream->state == HTTP2_WAITS)
            start_held(stream); /* which closes no other stream */
    }
}

/* Whether a request may be started that would not overtake another one. */
static bool may_start(struct client *client)
{
    return client->http2->waiting == 0 && client_may_start(client);
}

void http2_refuse(struct http2_stream *stream, unsigned status)
{
    struct buf head, body;
    bool has_head = buf_len(&stream->head) > 0;
    take_buffers(stream, &head, &body);
    if (has_head)
        read_again(&head);
    struct request *request = add(stream);
    if (request != NULL)
        request_refuse(request, status, has_head ? &head_scratch.http : NULL);
    buf_deinit(&head);
    buf_deinit(&body);
}

/* ---- Bodies --------------------------------------------------------------------------------- */

/* The oldest stream whose body is not complete; NULL: there is none. */
static struct http2_stream *oldest_body(const struct http2 *http2)
{
    if (http2->bodies == 0)
        return NULL;
    list_for_each (node, &http2->conn.streams) {
        struct http2_stream *stream = http2_stream_of(container_of(node, struct h2_stream, node));
        if (stream->state == HTTP2_BODY)
            return stream;
    }
    return NULL;
}

/*
 * Lets the oldest stream send the rest of its body, and one byte more than limits.body allows, so
 * that a longer one is found. Padding takes of the window, too: it is made good when much is gone.
 */
void http2_grant(struct client *client)
{
    enum { PADDING = 4096 /* bytes of the window that may be gone */ };
    uint8_t out[H2_HEAD_SIZE + 4];
    struct http2_stream *stream = oldest_body(client->http2);
    if (stream == NULL)
        return;
    size_t most = (size_t)client->ctx->conf->limits.body + 1;
    size_t want = most - MIN(buf_len(&stream->body), most);
    want = MIN(want, stream->h2.left); /* UINT64_MAX: not known */
    int64_t missing = (int64_t)want - stream->h2.recv_window;
    if (missing <= 0 || (missing < PADDING && stream->h2.recv_window > PADDING))
        return;
    if (stream->h2.recv_window <= 0)
        http2_set_state(stream, HTTP2_BODY); /* it has its time from now on */
    http2_send(client, out, h2_conn_grant(&stream->h2, (uint32_t)want, out));
}

/* The body is there. */
static void finish(struct http2_stream *stream)
{
    struct client *client = stream->client;
    http2_set_state(stream, HTTP2_WAITS);
    client->http2->waiting--; /* it is not one that others would overtake */
    bool starts = may_start(client);
    client->http2->waiting++;
    if (starts)
        start_held(stream);
    else
        client_touch(client);
}

static void send_continue(struct http2_stream *stream)
{
    uint8_t out[H2_CONTINUE_SIZE];
    http2_send(stream->client, out, h2_continue_write(out, stream->h2.id));
}

/* Whether the body of a request is handed on as it comes. One that is too long is refused later. */
static bool goes_in_parts(const struct http2_stream *stream, const struct http_head *http)
{
    const struct conf *conf = stream->client->ctx->conf;
    if (LIKELY(!conf->streams_bodies) ||
        (head_scratch.has_length && head_scratch.content_length <= conf->limits.body))
        return false;
    uint64_t most = upload_most(stream->client, http);
    return most > 0 && (!head_scratch.has_length || head_scratch.content_length <= most);
}

/* Sends what is there of a body that goes in parts, and lets the client send more. The stream may
 * be gone when this returns. */
static void push_upload(struct http2_stream *stream)
{
    struct client *client = stream->client;
    struct request *request = stream->request;
    struct buf *upload = &stream->upload;
    uint8_t out[H2_HEAD_SIZE + 4];
    size_t n = MIN(buf_len(upload), upload_room(request));
    bool last = n == buf_len(upload) && stream->h2.remote_closed;
    if ((n == 0 && !last) || upload_room(request) == 0)
        return;
    const uint32_t id = stream->h2.id;
    upload_part(request, (struct span){buf_data(upload), n}, last);
    if (h2_conn_find(&client->http2->conn, id) == NULL)
        return;
    client->http2->held -= upload->size;
    buf_consume(upload, n);
    if (buf_len(upload) == 0)
        buf_deinit(upload);
    client->http2->held += upload->size;
    size_t window = H2_WINDOW_DEFAULT - MIN(buf_len(upload), (size_t)H2_WINDOW_DEFAULT);
    if (!stream->h2.remote_closed && stream->h2.recv_window < (int64_t)window / 2) {
        if (stream->h2.recv_window <= 0)
            http2_set_since(stream);
        http2_send(client, out, h2_conn_grant(&stream->h2, (uint32_t)window, out));
    }
}

void http2_push_uploads(struct client *client)
{
    struct http2 *http2 = client->http2;
    http2->uploads = false;
    list_for_each_safe (node, &http2->conn.streams) {
        struct http2_stream *stream = http2_stream_of(container_of(node, struct h2_stream, node));
        if (stream->request == NULL || !stream->request->uploads)
            continue;
        http2->uploads = true;
        push_upload(stream);
    }
}

void http2_upload_room(struct request *request)
{
    client_touch(request->client);
}

/* More of a body that goes in parts; it is sent at the end of the turn. */
static void take_upload(struct http2_stream *stream, struct span bytes)
{
    stream->moved += (uint32_t)bytes.n;
    struct buf *buf = stream->request == NULL ? &stream->body : &stream->upload;
    if (hold(stream, buf, bytes.p, bytes.n))
        client_touch(stream->client);
}

/* A request whose body is to come, with its head in head_scratch. */
static void await_body(struct http2_stream *stream, struct span text)
{
    struct client *client = stream->client;
    const struct http_head *http = &head_scratch.http;
    if (http->expect_continue && request_hopeless(client, http)) {
        start(stream, (struct span){0}); /* refuses it now, before its body */
        return;
    }
    bool expects = http->expect_continue;
    if (goes_in_parts(stream, http)) {
        stream->is_upload = true;
        if (expects)
            send_continue(stream);
        if (may_start(client))
            start(stream, (struct span){0});
        else if (hold(stream, &stream->head, text.p, text.n))
            http2_set_state(stream, HTTP2_WAITS);
        return;
    }
    if (!hold(stream, &stream->head, text.p, text.n))
        return;
    http2_set_state(stream, HTTP2_BODY);
    if (head_scratch.has_length && head_scratch.content_length > client->ctx->conf->limits.body) {
        http2_refuse(stream, 413);
        return;
    }
    if (expects)
        send_continue(stream);
    http2_grant(client);
}

/* For a WebSocket, which may not be let in yet. The window bounds it. */
static void take_connect_data(struct http2_stream *stream, const struct h2_event *event)
{
    if (stream->state != HTTP2_WAITS && stream->state != HTTP2_SOCKET)
        return; /* it is refused */
    if (hold(stream, &stream->body, event->bytes.p, event->bytes.n) &&
        stream->state == HTTP2_SOCKET)
        http2_socket_wake(stream);
}

void http2_take_data(struct client *client, const struct h2_event *event)
{
    struct http2_stream *stream = http2_stream_of(event->stream);
    size_t n = event->bytes.n;
    if (stream->is_connect) {
        take_connect_data(stream, event);
        return;
    }
    if (stream->is_upload) {
        if (stream->state == HTTP2_WAITS || (stream->request != NULL && stream->request->uploads))
            take_upload(stream, event->bytes);
        return;
    }
    if (stream->state != HTTP2_BODY) /* it is answered already */
        return;
    if (buf_len(&stream->body) + n > client->ctx->conf->limits.body) {
        http2_refuse(stream, 413);
        return;
    }
    stream->moved += (uint32_t)n;
    if (!hold(stream, &stream->body, event->bytes.p, n))
        return;
    if (event->end_stream)
        finish(stream);
    else
        http2_grant(client);
}

/* ---- Header blocks -------------------------------------------------------------------------- */

/* Opens a stream. Returns NULL where that is not to be: the stream is reset, or there is no memory
 * for it. */
static struct http2_stream *open_stream(
    struct client *client, const struct h2_event *event, uint64_t length)
{
    struct http2_stream *stream = slab_get(&client->ctx->http2->streams);
    if (stream == NULL) {
        http2_fail(client, H2_FAULT_MEMORY);
        return NULL;
    }
    enum h2_fault fault = h2_conn_open(
        &client->http2->conn, &stream->h2, event->id, length, event->end_stream);
    if (fault != H2_OK) {
        slab_put(&client->ctx->http2->streams, stream);
        http2_fail_stream(client, event->id, NULL, fault);
        return NULL;
    }
    stream->client = client;
    stream->state = HTTP2_CALLED; /* in no list, and not counted, until it is known what it is */
    stream->is_head = head_scratch.http.method == HTTP_HEAD;
    stream->is_connect = head_scratch.protocol.n > 0;
    list_init(&stream->sending);
    return stream;
}

/* Answers what is no request with that status. */
static void refuse_block(struct client *client, const struct h2_event *event, unsigned status)
{
    struct http2_stream *stream = open_stream(client, event, UINT64_MAX);
    if (stream != NULL)
        http2_refuse(stream, status);
}

static void take_request(
    struct client *client, const struct h2_event *event, const struct h2_list *list)
{
    struct span text = {list->text, list->n};
    int r = h2_head_read(text, client->ctx->conf->limits.headers, &head_scratch);
    bool extended = head_scratch.protocol.n > 0;
    if ((r == 0 || r >= H2_FAULTS) && extended && !client->http2->conn.connects)
        r = H2_FAULT_PSEUDO_UNKNOWN;
    if (r == 0 && extended && !head_scratch.http.websocket)
        r = 501;
    if (list->over)
        r = 431;
    if (r != 0 && r < H2_FAULTS) {
        http2_fail_stream(client, event->id, NULL, (enum h2_fault)r);
        return;
    }
    if (r != 0) {
        refuse_block(client, event, (unsigned)r);
        return;
    }
    bool has_length = head_scratch.has_length && !extended; /* section 8.5: it has no body */
    struct http2_stream *stream = open_stream(
        client, event, has_length ? head_scratch.content_length : UINT64_MAX);
    if (stream == NULL)
        return;
    if (!event->end_stream && !extended)
        await_body(stream, text);
    else if (may_start(client))
        start(stream, (struct span){0});
    else if (hold(stream, &stream->head, text.p, text.n))
        http2_set_state(stream, HTTP2_WAITS);
}

/* Trailers mean nothing to a worker: they are looked at, and end the body. */
static void take_trailers(
    struct client *client, const struct h2_event *event, const struct h2_list *list)
{
    struct http2_stream *stream = http2_stream_of(event->stream);
    enum h2_fault fault = h2_trailers_check((struct span){list->text, list->n});
    if (fault == H2_OK && stream->is_connect)
        fault = H2_FAULT_TUNNEL;
    if (fault != H2_OK)
        http2_fail_stream(client, event->id, stream, fault);
    else if (stream->state == HTTP2_BODY)
        finish(stream);
    else if (stream->is_upload)
        client_touch(client);
}

void http2_take_block(struct client *client, const struct h2_event *event)
{
    struct http2_shared *shared = client->ctx->http2;
    const struct h2_config config = http2_config(client);
    uint32_t limit = h2_conn_header_limit(&client->http2->conn, &config);
    struct h2_list list = {.text = shared->room, .room = limit};
    struct h2_hpack *hpack = http2_decoder_of(client);
    enum h2_fault fault = hpack == NULL ? H2_FAULT_MEMORY
                                        : h2_hpack_decode(hpack, event->bytes, limit, &list);
    if (fault != H2_OK) {
        http2_fail(client, fault);
        return;
    }
    switch (event->use) {
    case H2_USE_REQUEST: take_request(client, event, &list); break;
    case H2_USE_TRAILERS: take_trailers(client, event, &list); break;
    case H2_USE_FAULT:
        http2_fail_stream(client, event->id,
            event->stream == NULL ? NULL : http2_stream_of(event->stream), event->fault);
        break;
    case H2_USE_NONE: break;
    }
}
