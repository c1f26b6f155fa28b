/*
 * WebSockets on streams (RFC 8441). An extended CONNECT is a request as others, until its route has
 * found the handshake right: http2_socket_open() makes a client of its own, with the session of a
 * WebSocket, which has no descriptor; its transport is the stream. So a WebSocket is the same
 * whatever it comes over.
 *
 * - DATA gathers in stream->body (http2_request.c) → the client reads it at the end of the turn →
 *   the stream's window is opened again. A client that is not read leaves the window shut.
 * - The client writes → DATA frames, as far as the windows and HTTP2_OUT allow; what they do not
 *   waits in the client, and the stream in http2->sending, until it is its turn (http2_fill()).
 * - END_STREAM is the end of either side, RST_STREAM with CANCEL a reset.
 *
 * It ends with its stream (http2_socket_lose()), or when its client is freed, with which its stream
 * is closed. It moves to another process with the connection, as a part of its stream's state.
 */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/session/http2_session.h"

/* What a WebSocket's client has as its transport. */
struct http2_socket {
    struct transport transport;
    struct client *client;
    struct http2_stream *stream; /* NULL: it is gone */
    bool shut;                   /* END_STREAM is out */
    bool its_turn;               /* it may send, though others wait to */
};

static struct http2_socket *socket_of(const struct transport *transport)
{
    return container_of((struct transport *)(uintptr_t)transport, struct http2_socket, transport);
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* Has the client send on, when half of the window is used. */
static void open_window(struct http2_stream *stream)
{
    uint8_t out[H2_HEAD_SIZE + 4];
    size_t unread = buf_len(&stream->body);
    uint32_t want = (uint32_t)(H2_WINDOW_DEFAULT - MIN(unread, (size_t)H2_WINDOW_DEFAULT));
    if (stream->h2.recv_window > H2_WINDOW_DEFAULT / 2 ||
        (int64_t)want - stream->h2.recv_window < H2_WINDOW_DEFAULT / 4)
        return;
    http2_send(stream->client, out, h2_conn_grant(&stream->h2, want, out));
}

static ssize_t read_stream(struct transport *transport, int fd, void *room, size_t n)
{
    struct http2_stream *stream = socket_of(transport)->stream;
    (void)fd;
    if (stream == NULL) {
        errno = ECONNRESET;
        return -1;
    }
    size_t unread = buf_len(&stream->body);
    if (unread == 0 && stream->h2.remote_closed)
        return 0;
    if (unread == 0) {
        errno = EAGAIN;
        return -1;
    }
    uint32_t before = stream->body.size;
    n = MIN(n, unread);
    memcpy(room, buf_data(&stream->body), n);
    buf_consume(&stream->body, n);
    stream->client->http2->held -= before - stream->body.size;
    open_window(stream);
    return (ssize_t)n;
}

static bool has_bytes(const struct transport *transport)
{
    const struct http2_stream *stream = socket_of(transport)->stream;
    return stream != NULL && (buf_len(&stream->body) > 0 || stream->h2.remote_closed);
}

void http2_socket_wake(struct http2_stream *stream)
{
    client_touch(stream->socket->client);
}

/* ---- Writing -------------------------------------------------------------------------------- */

/* It waits until it is its turn. The time that it has for that begins now. */
static void await_turn(struct http2_stream *stream)
{
    if (!list_empty(&stream->sending))
        return;
    list_append(&stream->client->http2->sending, &stream->sending);
    stream->socket->client->active_at = ctx_now(stream->client->ctx);
    client_touch(stream->client);
}

/* Whether the connection has room for a frame. Much in one turn is written in between, as it would
 * be on a connection of its own: what the kernel takes does not wait. */
static bool has_room(struct client *carrier)
{
    if (buf_len(&carrier->out) >= HTTP2_OUT && !client_blocked(carrier))
        client_write(carrier);
    return carrier->state == CLIENT_OPEN && buf_len(&carrier->out) < HTTP2_OUT;
}

/* How many bytes may be sent in one frame now. One that waits goes on when it is its turn. */
static uint32_t sendable(const struct http2_stream *stream)
{
    bool waits = !stream->socket->its_turn && !list_empty(&stream->sending);
    if (waits || !has_room(stream->client))
        return 0;
    return h2_conn_sendable(&stream->client->http2->conn, &stream->h2);
}

/* Copies `n` bytes that begin `skip` bytes behind the beginning of the pieces. */
static void gather(char *to, size_t n, const struct iovec *iov, size_t skip)
{
    for (; n > 0; iov++) {
        size_t part = iov->iov_len > skip ? MIN(iov->iov_len - skip, n) : 0;
        if (part > 0)
            memcpy(to, (const char *)iov->iov_base + skip, part);
        skip -= MIN(skip, iov->iov_len);
        to += part;
        n -= part;
    }
}

static ssize_t write_stream(struct transport *transport, int fd, const struct iovec *iov, int n)
{
    struct http2_socket *socket = socket_of(transport);
    struct http2_stream *stream = socket->stream;
    size_t all = 0, done = 0;
    uint32_t frame;
    (void)fd;
    if (stream == NULL || socket->shut) {
        errno = EPIPE;
        return -1;
    }
    for (int i = 0; i < n; i++)
        all += iov[i].iov_len;
    while (done < all && (frame = sendable(stream)) > 0) {
        frame = (uint32_t)MIN(all - done, (size_t)frame);
        char *room = http2_put_data(stream, frame, false);
        if (room == NULL)
            break;
        gather(room, frame, iov, done);
        done += frame;
        if (socket->its_turn)
            break;
    }
    if (done < all)
        await_turn(stream);
    return (ssize_t)done;
}

static int shut_stream(struct transport *transport, int fd)
{
    struct http2_socket *socket = socket_of(transport);
    struct http2_stream *stream = socket->stream;
    uint8_t head[H2_HEAD_SIZE];
    (void)fd;
    if (stream == NULL) {
        errno = EPIPE;
        return -1;
    }
    if (!socket->shut) /* an empty frame needs no window: RFC 9113 section 6.9 */
        http2_send(stream->client, head,
            h2_write_head(head, 0, H2_DATA, H2_FLAG_END_STREAM, stream->h2.id));
    socket->shut = true;
    return 0;
}

bool http2_socket_has_more(const struct http2_stream *stream)
{
    return client_writable(stream->socket->client) > 0;
}

void http2_socket_send(struct http2_stream *stream)
{
    struct http2_socket *socket = stream->socket;
    socket->its_turn = true;
    client_write(socket->client);
    socket->its_turn = false;
    client_touch(socket->client); /* it may go on, or end */
    list_remove(&stream->sending);
    if (http2_socket_has_more(stream) && socket->client->state < CLIENT_DOOMED)
        list_append(&stream->client->http2->sending, &stream->sending);
}

/* ---- The rest of a transport ---------------------------------------------------------------- */

static uint32_t wants(const struct transport *transport, uint32_t events)
{
    (void)transport;
    (void)events;
    return 0;
}

static bool can_move(const struct transport *transport)
{
    (void)transport;
    return false; /* by itself */
}

static struct client *carrier_of(const struct transport *transport)
{
    const struct http2_stream *stream = socket_of(transport)->stream;
    return stream == NULL ? NULL : stream->client;
}

/* The client of the WebSocket is freed: its stream is closed, if that is not another process's. */
static void free_socket(struct transport *transport)
{
    struct http2_socket *socket = socket_of(transport);
    struct http2_stream *stream = socket->stream;
    bool lives_on = socket->client->moving || socket->client->arriving;
    bool shut = socket->shut;
    mem_free(socket);
    if (stream == NULL)
        return;
    struct client *carrier = stream->client;
    struct h2_conn *conn = &carrier->http2->conn;
    stream->socket = NULL;
    if (lives_on || (shut && stream->h2.remote_closed)) {
        h2_conn_close(conn, &stream->h2);
    } else {
        uint8_t out[H2_HEAD_SIZE + 4];
        enum h2_fault fault;
        http2_send(carrier, out,
            h2_conn_reset(conn, &stream->h2, stream->h2.id, shut ? H2_NO_ERROR : H2_CANCEL,
                ctx_now(carrier->ctx), out, &fault));
        if (fault != H2_OK)
            http2_fail(carrier, fault);
    }
    http2_drop(stream);
}

static const struct transport_ops socket_ops = {
    .read = read_stream,
    .writev = write_stream,
    .wants = wants,
    .has_bytes = has_bytes,
    .shut = shut_stream,
    .can_move = can_move,
    .free = free_socket,
    .carrier = carrier_of,
};

/* ---- Life ----------------------------------------------------------------------------------- */

/* Makes the stream the transport of the client. Returns 0 or -ENOMEM. */
static int attach(struct http2_stream *stream, struct client *client)
{
    struct http2_socket *socket = mem_zalloc(sizeof(*socket));
    if (socket == NULL)
        return -ENOMEM;
    socket->transport.ops = &socket_ops;
    socket->client = client;
    socket->stream = stream;
    stream->socket = socket;
    client->transport = &socket->transport;
    return 0;
}

/* The request is another client's from now on. It has no call in progress. */
static void move_request(struct request *request, struct client *to)
{
    CHECK(list_empty(&request->calls));
    list_remove(&request->node);
    list_append(&to->requests, &request->node);
    request->client = to;
}

unsigned http2_socket_open(struct request *request)
{
    struct http2_stream *stream = http2_turn(request)->stream;
    struct client *client;
    unsigned status = client_open_carried(
        stream->client, request->peer.family == 0 ? NULL : &request->peer, &client);
    if (status != 0)
        return status;
    if (attach(stream, client) < 0) {
        client_doom(client); /* it has no stream, and nothing is told to anybody */
        return 503;
    }
    stream->request = NULL;
    http2_turn(request)->stream = NULL;
    move_request(request, client);
    http2_set_state(stream, HTTP2_SOCKET);
    return 0;
}

void http2_socket_accept(struct client *client, struct span fields)
{
    struct http2_stream *stream = socket_of(client->transport)->stream;
    if (stream == NULL)
        return; /* the client is doomed */
    const struct h2_reply head = {
        .status = 200,
        .no_length = true,
        .tells_table = stream->client->http2->conn.tells_table,
        .fields = fields,
    };
    http2_put_head(stream->client, &head, stream->h2.id);
}

bool http2_socket_give_back(struct request *request)
{
    struct client *client = request->client;
    struct http2_socket *socket = socket_of(client->transport);
    struct http2_stream *stream = socket->stream;
    client_doom(client);
    if (stream == NULL)
        return false;
    move_request(request, stream->client);
    http2_turn(request)->stream = stream;
    stream->request = request;
    stream->socket = NULL;
    socket->stream = NULL;
    http2_set_state(stream, HTTP2_CALLED);
    return true;
}

void http2_socket_lose(struct http2_stream *stream)
{
    struct http2_socket *socket = stream->socket;
    struct client *client = socket->client;
    socket->stream = NULL;
    stream->socket = NULL;
    if (client->arriving)
        client_discard(client); /* as its carrier is, which could not be restored */
    else
        client_doom(client);
}

bool http2_each_socket(
    const struct client *client, bool (*each)(struct client *socket, void *arg), void *arg)
{
    const struct http2 *http2 = client->http2;
    if (http2 == NULL)
        return true;
    list_for_each_safe (node, &http2->conn.streams) {
        struct http2_stream *stream = http2_stream_of(container_of(node, struct h2_stream, node));
        if (stream->socket != NULL && !each(stream->socket->client, arg))
            return false;
    }
    return true;
}

/* ---- Moving --------------------------------------------------------------------------------- */

void http2_socket_save(const struct http2_stream *stream, struct pack *pack)
{
    struct buf state = {0};
    pack_u8(pack, stream->socket->shut);
    pack->failed |= client_save(stream->socket->client, &state) < 0;
    pack_bytes(pack, (struct span){buf_data(&state), buf_len(&state)});
    buf_deinit(&state);
}

int http2_socket_restore(struct http2_stream *stream, struct unpack *unpack)
{
    struct client *client;
    bool shut = unpack_flag(unpack);
    struct span state = unpack_bytes(unpack);
    int r = client_restore_carried(stream->client, state, &client);
    if (r < 0)
        return r;
    if (attach(stream, client) < 0) {
        client_discard(client);
        return -ENOMEM;
    }
    stream->socket->shut = shut;
    if (!shut && client_writable(client) > 0)
        list_append(&stream->client->http2->sending, &stream->sending);
    return 0;
}
