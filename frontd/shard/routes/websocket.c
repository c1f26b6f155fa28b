/*
 * start() checks a handshake; with `connect: ask` a worker is asked; then the answer 101 goes out
 * and the client's session becomes that of a WebSocket. From then on each of its messages comes
 * here too, without a head, and is JSON-RPC. Over HTTP/2 the handshake is an extended CONNECT, the
 * answer is 200, and it is the stream that becomes a WebSocket, with a client of its own.
 */

#include "frontd/shard/routes/websocket.h"

#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/cross_site.h"
#include "frontd/codec/ws_deflate.h"
#include "frontd/codec/ws_handshake.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/routes/jsonrpc.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/http1_session.h"
#include "frontd/shard/session/http2_session.h"

/* What the answer to a handshake says of it, in either version of HTTP. id: a field, or nothing. */
static int put_fields(
    struct buf *out, const char *protocol, struct ws_deflate deflate, struct span id)
{
    char extensions[WS_DEFLATE_FIELD];
    size_t n = ws_deflate_field(deflate, extensions);
    if (protocol != NULL && buf_printf(out, "Sec-WebSocket-Protocol: %s\r\n", protocol) < 0)
        return -ENOMEM;
    if (n > 0 && buf_append(out, extensions, n) < 0)
        return -ENOMEM;
    return buf_append(out, id.p, id.n);
}

static int put_switching(struct buf *out, struct ctx *ctx, const char *accept)
{
    return buf_printf(out,
        "HTTP/1.1 101 Switching Protocols\r\nServer: frontd\r\nDate: %s\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
        ctx_date(ctx), accept);
}

/* Keeps the header fields of the handshake that the route asks for, for calls of the connection. */
static int keep_headers(struct duplex *duplex, const struct http_head *head)
{
    struct buf text = {0};
    if (duplex->route->nheaders == 0)
        return 0;
    if (buf_append(&text, "{", 1) == 0 && meta_put_headers(&text, duplex->route, head) == 0 &&
        buf_append(&text, "}", 1) == 0)
        duplex->headers = mem_strndup(buf_data(&text), buf_len(&text));
    buf_deinit(&text);
    return duplex->headers == NULL ? -ENOMEM : 0;
}

static void refuse_upgrade(struct request *request, unsigned status)
{
    const struct span upgrade = SPAN(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    request_status(request, status, status == 426 ? upgrade : (struct span){0});
}

/*
 * Finds the client that the WebSocket is for: from here on the connection is its client's alone,
 * whoever the proxy is; over HTTP/2 the stream is. Returns 0, or the status to refuse with.
 */
static unsigned find_client(struct request *request, const struct http_head *head)
{
    if (head->websocket)
        return http2_socket_open(request);
    bool told = request->peer.family != 0;
    return told && !client_set_peer(request->client, &request->peer) ? 429 : 0;
}

/* The client becomes a WebSocket; what says so waits in request->batch. Returns 0 or -ENOMEM. */
static int begin(
    struct request *request, const struct http_head *head, const char *accept, const char *protocol)
{
    struct client *client = request->client;
    struct buf *out = &request->batch;
    struct ws_deflate deflate = {0};
    if (request->route->compression)
        deflate = ws_deflate_choose(head);
    if (!head->websocket && put_switching(out, client->ctx, accept) < 0)
        return -ENOMEM;
    if (put_fields(out, protocol, deflate, mark_field(request->mark)) < 0)
        return -ENOMEM;
    if (!head->websocket && buf_append(out, "\r\n", 2) < 0)
        return -ENOMEM;
    int r = duplex_begin(client, request->route, SESSION_WEBSOCKET, head);
    if (r == 0)
        client->duplex->deflate = deflate.bits;
    return r;
}

/* There was no memory for it. */
static void give_up(struct request *request, const struct http_head *head)
{
    if (!head->websocket)
        http1_set_last(request); /* no other client's request may follow */
    else if (!http2_socket_give_back(request))
        return;
    refuse_upgrade(request, 503);
}

/* A handshake ends, as 101 or an error, at once or when a worker has been asked; a message becomes
 * calls. */
static void start(struct request *request, const struct http_head *head, struct span body)
{
    struct client *client = request->client;
    const struct conf_route *route = request->route;
    if (head == NULL) {
        jsonrpc_start(request, NULL, body);
        return;
    }
    char accept[WS_ACCEPT_SIZE];
    int protocol = -1;
    request->class = METRIC_CLASS_CONNECT;
    int status = ws_wanted(head) ? ws_handshake(head, route->origins, route->norigins,
                                       route->protocols, route->nprotocols, accept, &protocol)
                                 : 426;
    if (status == 0 && route->cross_site_refuse && cross_site_foreign(head))
        status = 403;
    if (status == 0 && !head->websocket && client->requests.next != &request->node) {
        http1_hold(request, head);
        return;
    }
    if (status == 0 && (client->ctx->draining || ctx_memory(client->ctx) >= MEMORY_SHORT))
        status = 503;
    if (status == 0)
        status = (int)find_client(request, head);
    if (status != 0) {
        refuse_upgrade(request, (unsigned)status);
        return;
    }
    client = request->client;
    if (begin(request, head, accept, protocol < 0 ? NULL : route->protocols[protocol]) < 0) {
        give_up(request, head);
        return;
    }
    client->last_request = false; /* "Connection: close" was said of HTTP */
    client->duplex->claims = claims_ref(request->claims);
    if (keep_headers(client->duplex, head) < 0) {
        client_doom(client);
        return;
    }
    if (route->events && route->connect_ask) {
        duplex_ask(request, head);
        return;
    }
    if (route->events)
        duplex_announce(client, head);
    duplex_let_in(request);
}

const struct route_ops websocket_route = {
    .is_json = true,
    .start = start,
    .ended = jsonrpc_ended,
    .go_on = jsonrpc_go_on,
    .drop_rest = jsonrpc_drop_rest,
    .rest_size = jsonrpc_rest_size,
};
