/*
 * take() feeds bytes to the codec, a frame at a time, and hands each event on: header blocks and
 * DATA make requests (http2_request.c), windows let answers go on (http2_answer.c). Reading never
 * waits for a call, since WINDOW_UPDATE frames come on the same connection: a request that may not
 * be started yet waits as a stream.
 *
 * At the end of a turn streams that wait are started, and DATA is put into client->out.
 *
 * A connection ends in one of these ways:
 * - drain(): GOAWAY, and a PING behind it; when the client has answered that, or after
 *   HTTP2_GOAWAY_MS, the second GOAWAY with the last stream; then its streams end, then it does
 * - http2_fail(): GOAWAY with an error; its streams go at once
 * - close_now(): the same with NO_ERROR
 * - nothing has happened for idle_timeout: GOAWAY
 */

#include "frontd/shard/session/http2_session.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/net/incident.h"
#include "frontd/shard/request/upload.h"

void http2_init(struct http2_shared *shared, struct ctx *ctx)
{
    *shared = (struct http2_shared){0};
    slab_init(&shared->connections, sizeof(struct http2));
    slab_init(&shared->streams, sizeof(struct http2_stream));
    list_init(&shared->decoders);
    ctx->http2 = shared;
}

void http2_deinit(struct http2_shared *shared)
{
    CHECK(shared->ndecoders == 0);
    slab_deinit(&shared->streams);
    slab_deinit(&shared->connections);
    shared->room = mem_free(shared->room);
}

int http2_make_room(struct ctx *ctx, uint32_t n)
{
    struct http2_shared *shared = ctx->http2;
    if (LIKELY(n <= shared->room_n))
        return 0;
    mem_free(shared->room); /* nothing is kept in it */
    shared->room = mem_zalloc(n);
    shared->room_n = shared->room == NULL ? 0 : n;
    return shared->room == NULL ? -ENOMEM : 0;
}

struct h2_config http2_config(const struct client *client)
{
    const struct conf_limits *limits = &client->ctx->conf->limits;
    return (struct h2_config){
        .header = limits->header,
        .streams = limits->streams,
        .connects = client_listener(client)->h2_websocket,
    };
}

int http2_begin(struct client *client)
{
    struct http2_shared *shared = client->ctx->http2;
    int r = http2_make_room(client->ctx, client->ctx->conf->limits.header);
    struct http2 *http2 = r < 0 ? NULL : slab_get(&shared->connections);
    if (http2 == NULL)
        return -ENOMEM;
    list_init(&http2->sending);
    list_init(&http2->conn.streams);
    client->http2 = http2;
    client_set_session(client, SESSION_HTTP2);
    return 0;
}

int http2_open(struct client *client)
{
    uint8_t out[H2_START_MAX];
    struct h2_config config = http2_config(client);
    if (http2_begin(client) < 0)
        return -ENOMEM;
    http2_send(client, out, h2_conn_init(&client->http2->conn, &config, ctx_now(client->ctx), out));
    return 0;
}

void http2_send(struct client *client, const void *bytes, size_t n)
{
    char *room = n == 0 ? NULL : client_room(client, n);
    if (room != NULL)
        memcpy(room, bytes, n);
}

/* Whether more came than any client has a use for: not only a mistake. */
static bool is_flood(enum h2_fault fault)
{
    return h2_fault(fault)->code == H2_ENHANCE_YOUR_CALM;
}

static void note_fault(struct client *client, enum h2_fault fault)
{
    if (fault == H2_FAULT_SLOW_READER)
        refusal_note(client, CLOSED_SLOW_READER);
    else if (fault == H2_FAULT_SLOW_SENDER)
        refusal_note(client, CLOSED_SLOW_SENDER);
    else if (fault == H2_FAULT_REFUSED)
        refusal_note(client, REFUSED_STREAMS);
    else
        refusal_note_what(
            client, is_flood(fault) ? REFUSED_HTTP2_FLOOD : REFUSED_HTTP2, h2_fault(fault)->text);
}

void http2_fail(struct client *client, enum h2_fault fault)
{
    uint8_t out[H2_GOAWAY_MAX];
    struct http2 *http2 = client->http2;
    if (http2->conn.failed)
        return;
    note_fault(client, fault);
    http2_send(client, out, h2_conn_goaway(&http2->conn, fault, out));
}

void http2_reset(struct client *client, uint32_t id, struct http2_stream *stream, enum h2_code code)
{
    uint8_t out[H2_HEAD_SIZE + 4];
    enum h2_fault of_conn;
    http2_send(client, out,
        h2_conn_reset(&client->http2->conn, stream == NULL ? NULL : &stream->h2, id, code,
            ctx_now(client->ctx), out, &of_conn));
    if (stream != NULL)
        http2_drop(stream);
    if (of_conn != H2_OK)
        http2_fail(client, of_conn);
}

void http2_fail_stream(
    struct client *client, uint32_t id, struct http2_stream *stream, enum h2_fault fault)
{
    note_fault(client, fault);
    http2_reset(client, id, stream, h2_fault(fault)->code);
}

void http2_set_state(struct http2_stream *stream, enum http2_stream_state state)
{
    struct http2 *http2 = stream->client->http2;
    http2->bodies -= stream->state == HTTP2_BODY;
    http2->waiting -= stream->state == HTTP2_WAITS;
    list_remove(&stream->sending);
    stream->state = (uint8_t)state;
    http2->bodies += state == HTTP2_BODY;
    http2->waiting += state == HTTP2_WAITS;
    if (state == HTTP2_ANSWERS)
        list_append(&http2->sending, &stream->sending);
    http2_set_since(stream);
}

void http2_drop(struct http2_stream *stream)
{
    struct client *client = stream->client;
    if (stream->request != NULL)
        request_abandon(stream->request);
    if (stream->socket != NULL)
        http2_socket_lose(stream);
    if (stream->state == HTTP2_ANSWERS || stream->state == HTTP2_PARTS)
        client->held_back -= (uint32_t)buf_len(&stream->body);
    else
        client->http2->held -= stream->head.size + stream->body.size;
    client->http2->held -= stream->upload.size;
    http2_set_state(stream, HTTP2_CALLED); /* which is in no list, and not counted */
    buf_deinit(&stream->head);
    buf_deinit(&stream->body);
    buf_deinit(&stream->upload);
    slab_put(&client->ctx->http2->streams, stream);
    client_touch(client); /* the connection may be over, or another stream's body may come */
}

void http2_set_since(struct http2_stream *stream)
{
    stream->since = ctx_now(stream->client->ctx);
    stream->moved = 0;
}

static void drop_all(struct client *client)
{
    struct http2 *http2 = client->http2; /* NULL: there was no memory for it */
    while (http2 != NULL && !list_empty(&http2->conn.streams)) {
        struct h2_stream *stream = list_first(&http2->conn.streams, struct h2_stream, node);
        h2_conn_close(&http2->conn, stream);
        http2_drop(http2_stream_of(stream));
    }
}

/* The first GOAWAY: the client is to open no more streams, but may have some under way. */
static void leave(struct client *client)
{
    uint8_t out[H2_LEAVE_MAX];
    struct http2 *http2 = client->http2;
    http2_send(client, out, h2_conn_leave(&http2->conn, out));
    http2->goaway_at = (uint32_t)(ctx_now(client->ctx) + HTTP2_GOAWAY_MS) | 1;
}

/* When the second one is due, in ms; UINT64_MAX: it is not. */
static uint64_t goaway_due(const struct client *client)
{
    const struct http2 *http2 = client->http2;
    uint64_t now = ctx_now(client->ctx);
    uint32_t left = http2->goaway_at - (uint32_t)now;
    if (http2->goaway_at == 0)
        return UINT64_MAX;
    return left <= HTTP2_GOAWAY_MS + 1 ? now + left : now;
}

/* The second: no further stream is served. */
static void leave_now(struct client *client)
{
    uint8_t out[H2_GOAWAY_MAX];
    struct http2 *http2 = client->http2;
    http2->goaway_at = 0;
    http2_send(client, out, h2_conn_goaway(&http2->conn, H2_OK, out));
}

static void take_event(struct client *client, const struct h2_event *event)
{
    struct http2_stream *stream = event->stream == NULL ? NULL : http2_stream_of(event->stream);
    switch (event->kind) {
    case H2_EVENT_HEADERS: http2_take_block(client, event); break;
    case H2_EVENT_DATA: http2_take_data(client, event); break;
    case H2_EVENT_RESET:
        CHECK(stream != NULL);
        http2_drop(stream);
        break;
    case H2_EVENT_WINDOW: client_touch(client); break;
    case H2_EVENT_STREAM_FAULT: http2_fail_stream(client, event->id, stream, event->fault); break;
    case H2_EVENT_FAULT: http2_fail(client, event->fault); break;
    case H2_EVENT_PONG:
        if (client->http2->goaway_at != 0)
            leave_now(client);
        break;
    case H2_EVENT_NONE:
    case H2_EVENT_MORE: break;
    }
}

static size_t take(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    struct http2 *http2 = client->http2;
    const struct h2_config config = http2_config(client);
    (void)codec;
    if (buf_len(&client->out) == 0)
        h2_conn_flushed(&http2->conn);
    while (n > 0 && client->state == CLIENT_OPEN && !http2->conn.failed &&
           client_answers_ahead(client)) {
        struct h2_event event;
        size_t used = h2_conn_feed(&http2->conn, p, n, &config, ctx_now(client->ctx), &event);
        if (event.kind == H2_EVENT_MORE)
            break;
        http2_send(client, event.answer, event.answer_n);
        bool wrong = event.kind == H2_EVENT_FAULT || event.kind == H2_EVENT_STREAM_FAULT;
        if (UNLIKELY(wrong))
            incident_show(client->ctx, INCIDENT_FRAMES, (struct span){p, n});
        take_event(client, &event);
        if (UNLIKELY(wrong))
            incident_hide(client->ctx);
        p += used;
        n -= used;
        if (http2->conn.leave && !http2->conn.failed)
            leave(client);
    }
    *ret_rest = p;
    return http2->conn.failed ? 0 : n;
}

static size_t ahead(struct client *client, union codec_state *codec, char *p, size_t n)
{
    char *rest;
    size_t left = take(client, codec, p, n, &rest);
    memmove(p, rest, left);
    return left;
}

/* A connection without streams ends when no more are served. */
static bool is_over(const struct client *client)
{
    const struct h2_conn *conn = &client->http2->conn;
    return conn->goaway_last != H2_STREAM_MAX && list_empty(&conn->streams);
}

/* The connection has come from a process with other limits. */
static void tell_limits(struct client *client)
{
    uint8_t out[H2_TELL_MAX];
    const struct h2_config config = http2_config(client);
    http2_send(client, out, h2_conn_tell(&client->http2->conn, &config, out));
}

static bool turn(struct client *client)
{
    struct http2 *http2 = client->http2;
    if (client->state != CLIENT_OPEN) {
        drop_all(client); /* of a connection that breaks off: nothing is sent on them any more */
        return false;
    }
    if (UNLIKELY(h2_conn_tells(&http2->conn)))
        tell_limits(client);
    if (http2->conn.failed)
        drop_all(client);
    if (http2->conn.failed || is_over(client)) {
        client->last_request = true;
        client_end(client);
        return false;
    }
    if (UNLIKELY(client->ctx->leaving) && client_can_move(client))
        return false; /* the other process goes on */
    if (http2->waiting > 0)
        http2_start_waiting(client);
    if (UNLIKELY(http2->uploads))
        http2_push_uploads(client);
    http2_grant(client);
    if (list_empty(&http2->sending))
        return false;
    http2_fill(client);
    return http2_has_more(client);
}

static bool input_ended(struct client *client)
{
    (void)client;
    return false;
}

/* ---- Timeouts ------------------------------------------------------------------------------- */

/* Whether more of a body that goes part by part is to come from the client. */
static bool is_uploading(const struct http2_stream *stream)
{
    return stream->request != NULL && stream->request->uploads && !stream->h2.remote_closed;
}

/* Whether the stream's progress is looked at: it is the client's to make. */
static bool is_timed(const struct http2_stream *stream)
{
    return stream->state == HTTP2_BODY || stream->state == HTTP2_ANSWERS || is_uploading(stream) ||
           (stream->state == HTTP2_PARTS && buf_len(&stream->body) > 0);
}

static uint64_t streams_due(const struct client *client)
{
    const struct http2 *http2 = client->http2;
    uint64_t since = UINT64_MAX;
    if (http2->bodies == 0 && !http2->uploads && list_empty(&http2->sending))
        return UINT64_MAX;
    list_for_each (node, &http2->conn.streams) {
        struct http2_stream *stream = http2_stream_of(container_of(node, struct h2_stream, node));
        if (is_timed(stream))
            since = MIN(since, stream->since);
    }
    return since == UINT64_MAX ? since : since + client_body_timeout(client);
}

/* Whether what is incomplete is a DATA frame, which comes as fast as a body may. */
static bool is_data(const struct pending *pending)
{
    return buf_len(&pending->bytes) > 3 && buf_data(&pending->bytes)[3] == H2_DATA;
}

static uint64_t pending_due(const struct client *client)
{
    if (is_data(client->pending))
        return client_pending_due(client);
    return client->pending->started + client->ctx->conf->limits.header_timeout;
}

static uint64_t due(const struct client *client)
{
    const struct http2 *http2 = client->http2;
    if (http2->conn.failed)
        return UINT64_MAX;
    uint64_t at = MIN(MIN(goaway_due(client), streams_due(client)), http2_decoder_due(http2));
    if (client->pending != NULL && !client->yields)
        return MIN(at, pending_due(client));
    if (list_empty(&http2->conn.streams))
        at = MIN(at, client->active_at + client->ctx->conf->limits.idle_timeout);
    return at;
}

/*
 * Whether the stream has had its time: less than 128 bytes a second went either way. A body that
 * may not come, since others are to come first, is not slow.
 */
static bool is_slow(struct http2_stream *stream)
{
    uint64_t passed = ctx_now(stream->client->ctx) - stream->since;
    bool comes = stream->state == HTTP2_BODY || is_uploading(stream);
    bool held_up = comes && (stream->h2.recv_window <= 0 || buf_len(&stream->upload) > 0);
    if (!held_up && stream->moved < CLIENT_BODY_RATE * passed / 1000)
        return true;
    stream->since += passed;
    stream->moved = 0;
    return false;
}

static void expire_streams(struct client *client)
{
    uint64_t now = ctx_now(client->ctx);
    list_for_each_safe (node, &client->http2->conn.streams) {
        struct http2_stream *stream = http2_stream_of(container_of(node, struct h2_stream, node));
        if (!is_timed(stream) || stream->since + client_body_timeout(client) > now ||
            !is_slow(stream))
            continue;
        if (stream->state == HTTP2_BODY)
            http2_refuse(stream, 408);
        else if (is_uploading(stream))
            upload_fail(stream->request, 408);
        else
            http2_fail_stream(client, stream->h2.id, stream, H2_FAULT_SLOW_READER);
    }
}

static void expire(struct client *client)
{
    struct http2 *http2 = client->http2;
    uint64_t now = ctx_now(client->ctx);
    if (http2->conn.failed)
        return;
    if (goaway_due(client) <= now)
        leave_now(client);
    if (http2_decoder_due(http2) <= now)
        http2_decoder_freeze(client);
    if (streams_due(client) <= now)
        expire_streams(client);
    if (client->pending != NULL && pending_due(client) <= now) {
        if (!is_data(client->pending) || client_too_slow(client))
            http2_fail(client, H2_FAULT_SLOW_SENDER);
        return;
    }
    if (list_empty(&http2->conn.streams) && http2->conn.goaway_last == H2_STREAM_MAX &&
        client->active_at + client->ctx->conf->limits.idle_timeout <= now) {
        client_because(client, METRIC_REASON_IDLE);
        leave_now(client);
    }
}

static bool drain_socket(struct client *socket, void *arg)
{
    (void)arg;
    client_drain(socket);
    return true;
}

static void drain(struct client *client)
{
    http2_each_socket(client, drain_socket, NULL);
    if (!client->http2->conn.preface && client->pending == NULL)
        client_leave(client); /* nothing has come: what we have sent is in the kernel's hands */
    else if (!client->http2->conn.going)
        leave(client);
}

/* The client is told that nothing is wrong; its streams end with the connection. */
static void close_now(struct client *client, unsigned code, struct span reason)
{
    uint8_t out[H2_GOAWAY_MAX];
    struct http2 *http2 = client->http2;
    (void)code;
    (void)reason;
    if (http2->conn.failed)
        return;
    http2->conn.failed = true;
    http2_send(client, out, h2_conn_goaway(&http2->conn, H2_OK, out));
    client_touch(client);
}

static void abandoned(struct request *request)
{
    struct http2_stream *stream = http2_turn(request)->stream;
    if (stream != NULL)
        stream->request = NULL;
}

static size_t holds(const struct client *client)
{
    return client->http2 == NULL ? 0 : client->http2->held;
}

static size_t holds_back(const struct client *client)
{
    size_t n = 0;
    if (client->http2 == NULL)
        return 0;
    list_for_each (node, &client->http2->sending) {
        const struct http2_stream *stream = container_of(node, struct http2_stream, sending);
        n += stream->state == HTTP2_SOCKET ? 0 : stream->body.size;
    }
    return n;
}

static void gone(struct client *client)
{
    if (client->http2 == NULL)
        return;
    drop_all(client);
    http2_decoder_free(client);
    slab_put(&client->ctx->http2->connections, client->http2);
    client->http2 = NULL;
}

const struct session_ops http2_session = {
    .size = sizeof(struct http2),
    .request_size = sizeof(struct http2_turn),
    .head_text = http2_head_text,
    .head_again = http2_head_again,
    .ends_at_once = true,
    .open = http2_open,
    .take = take,
    .ahead = ahead,
    .input_ended = input_ended,
    .turn = turn,
    .abandoned = abandoned,
    .reply = http2_reply,
    .begin = http2_begin_parts,
    .part = http2_part,
    .finish = http2_finish,
    .break_off = http2_break_off,
    .unsent = http2_unsent,
    .upload_room = http2_upload_room,
    .due = due,
    .expire = expire,
    .drain = drain,
    .gone = gone,
    .close = close_now,
    .holds = holds,
    .holds_back = holds_back,
    .each_carried = http2_each_socket,
    .save = http2_save,
    .restore = http2_restore,
};
