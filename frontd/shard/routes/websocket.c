/*
 * start() checks a handshake; with `connect: ask` a worker is asked; then the answer 101 goes out
 * and the client's session becomes that of a WebSocket. From then on each of its messages comes
 * here too, without a head, and is JSON-RPC.
 */

#include "frontd/shard/routes/websocket.h"

#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/cross_site.h"
#include "frontd/codec/ws_handshake.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/routes/jsonrpc.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/http1_session.h"

static int put_switching(
    struct buf *out, struct ctx *ctx, const char *accept, const char *protocol, struct span id)
{
    return buf_printf(out,
        "HTTP/1.1 101 Switching Protocols\r\nServer: frontd\r\nDate: %s\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s%.*s\r\n",
        ctx_date(ctx), accept,
        protocol == NULL ? "" : "Sec-WebSocket-Protocol: ", protocol == NULL ? "" : protocol,
        protocol == NULL ? "" : "\r\n", (int)id.n, id.n == 0 ? "" : id.p);
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
    if (status == 0 && client->requests.next != &request->node) {
        http1_hold(request, head);
        return;
    }
    if (status == 0 && (client->ctx->draining || ctx_memory(client->ctx) >= MEMORY_SHORT))
        status = 503;
    /* From here on the connection is its client's alone, whoever the proxy is. */
    if (status == 0 && request->peer.family != 0 && !client_set_peer(client, &request->peer))
        status = 429;
    if (status != 0) {
        refuse_upgrade(request, (unsigned)status);
        return;
    }
    if (put_switching(&request->batch, client->ctx, accept,
            protocol < 0 ? NULL : route->protocols[protocol], mark_field(request->mark)) < 0 ||
        duplex_begin(client, route, SESSION_WEBSOCKET) < 0) {
        http1_set_last(request); /* no other client's request may follow */
        refuse_upgrade(request, 503);
        return;
    }
    client->last_request = false; /* "Connection: close" was said of HTTP */
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
