/*
 * The life of a duplex connection, whatever its framing: duplex_begin() makes a client one → with
 * `connect: ask` a worker is asked, whose answer comes to duplex_asked(), else workers are told
 * (duplex_announce()) → each message becomes calls of its route or, with `messages: raw`, goes to a
 * worker as it is (duplex_message()) → duplex_close() closes it, or duplex_fail() where the client
 * makes an error → duplex_gone() tells workers.
 */

#include "frontd/shard/session/duplex.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/utf8.h"
#include "frontd/shard/client/affinity.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/request/canary.h"
#include "frontd/shard/request/conn_events.h"
#include "frontd/shard/session/http1_session.h"
#include "frontd/shard/session/http2_session.h"

void duplex_set_keep_alive(const struct client *client)
{
    uint64_t ping_ms = client->duplex->route->ping;
    int one = 1;
    int seconds = (int)MIN((ping_ms + 999) / 1000, (uint64_t)32767);
    int count = DUPLEX_PINGS_MAX - 1;
    unsigned timeout = (unsigned)MIN(ping_ms * DUPLEX_PINGS_MAX, (uint64_t)INT32_MAX);
    if (client->fd < 0)
        return; /* its carrier is read all the time */
    if (client->peer_family == AF_UNIX)
        return; /* the kernel always reports the other end's close */
    setsockopt(client->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    setsockopt(client->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

int duplex_begin(struct client *client, const struct conf_route *route, enum session_kind kind,
    const struct http_head *head)
{
    struct ctx *ctx = client->ctx;
    struct duplex *duplex = slab_get(&ctx->duplexes);
    if (duplex == NULL)
        return -ENOMEM;
    duplex->route = route;
    duplex->heard_at = ctx_now(ctx);
    idmap_add(&ctx->conns, &client->conn);
    client->duplex = duplex;
    client_set_session(client, kind);
    duplex_set_keep_alive(client);
    const struct peer peer = client_peer(client);
    duplex->canary = canary_takes(route, &peer, client->conn.id, head);
    return 0;
}

struct subscription **duplex_subscriptions(struct client *client)
{
    return &client->duplex->subscriptions;
}

bool duplex_canary(const struct client *client)
{
    return client->duplex->canary;
}

struct affinity **duplex_affinity(const struct client *client)
{
    return &client->duplex->affinity;
}

const struct conf_route *duplex_route(const struct client *client)
{
    return client->duplex->route;
}

struct span duplex_headers(const struct client *client)
{
    const char *headers = client->duplex->headers;
    return headers == NULL ? (struct span){0} : (struct span){headers, strlen(headers)};
}

const struct claims *duplex_claims(const struct client *client)
{
    return client->duplex->claims;
}

size_t duplex_holds(const struct client *client)
{
    const struct claims *claims = client->duplex->claims;
    return topics_held(client->duplex->subscriptions) + duplex_headers(client).n +
           (claims == NULL ? 0 : claims->n) + affinity_held(client->duplex->affinity);
}

void duplex_set_code(struct client *client, unsigned code)
{
    struct duplex *duplex = client->duplex;
    if (duplex->code == 0)
        duplex->code = (uint16_t)code;
}

void duplex_ask(struct request *request, const struct http_head *head)
{
    struct client *client = request->client;
    client->held = true;
    client->duplex->announced = true; /* the worker may know of it before its answer is here */
    event_ask(request, client, head);
}

void duplex_announce(struct client *client, const struct http_head *head)
{
    client->duplex->announced = event_connected(client, head);
}

/*
 * The connection is not let in. A WebSocket's handshake is answered over HTTP; others are closed.
 * error: why no worker has let it in; 0: a worker does not want it.
 */
static void turn_away(struct request *request, enum rpc_error error)
{
    struct client *client = request->client;
    bool websocket = client->session == SESSION_WEBSOCKET;
    client_because(client, METRIC_REASON_WORKER);
    client_session(client)->gone(client);
    message_queue_free(&client->queue);
    if (!websocket) {
        client->last_request = true;
        request->code = error == 0 ? METRIC_CODE_403 : metric_code_of_error((int)error);
        request_free(request);
        client_end(client);
        return;
    }
    if (client->fd < 0 && !http2_socket_give_back(request)) {
        request_free(request);
        return;
    }
    if (client->fd >= 0)
        http1_set_last(request);
    if (error != 0)
        request_error_status(request, error);
    else
        request_status(request, 403, (struct span){0});
}

/* Whether a worker may have let the connection in, though its answer is not known: workers are told
 * of its end. */
static bool may_be_let_in(enum rpc_error error)
{
    return error == RPC_WORKER_LOST || error == RPC_DEADLINE_EXCEEDED || error == RPC_BAD_RESPONSE;
}

void duplex_say_goodbye(struct client *client)
{
    const struct ctx *ctx = client->ctx;
    client_because(client, METRIC_REASON_LEAVING);
    if (ctx->replaced)
        duplex_close(client, WS_CODE_RESTART, SPAN("restarting"));
    else if (client->duplex->code == WS_CODE_RESTART)
        duplex_close(client, WS_CODE_RESTART, SPAN("its worker is gone"));
    else
        duplex_close(client, WS_CODE_GOING_AWAY, SPAN("going away"));
}

void duplex_let_in(struct request *request)
{
    struct client *client = request->client;
    /* The answer to the handshake goes out before what workers have pushed meanwhile: that is in
     * the queue. */
    if (client->fd < 0)
        http2_socket_accept(
            client, (struct span){buf_data(&request->batch), buf_len(&request->batch)});
    else if (buf_len(&request->batch) > 0 &&
             buf_append(&client->out, buf_data(&request->batch), buf_len(&request->batch)) < 0)
        client_doom(client);
    client_touch(client);
    request->code = METRIC_CODE_OK;
    if (UNLIKELY(request->mark != NULL) && client->session == SESSION_WEBSOCKET)
        request->mark->status = client->fd < 0 ? 200 : 101; /* RFC 8441 section 5 */
    request_free(request);
    if (client->duplex->draining)
        duplex_say_goodbye(client);
}

enum metric_code duplex_asked(struct request *request, const struct outcome *outcome)
{
    struct client *client = request->client;
    struct jsonrpc_response response = {0};
    enum rpc_error error = call_read_answer(outcome, &response);
    client->held = false;
    client_touch(client);
    if (error == 0 && response.error.n == 0) {
        duplex_let_in(request);
        return METRIC_CODE_OK;
    }
    if (!may_be_let_in(error))
        client->duplex->announced = false; /* no worker knows of it */
    turn_away(request, error);
    return error == 0 ? METRIC_CODE_APP : metric_code_of_error((int)error);
}

/* A worker closes the connection before another has answered whether it is let in: it is not. */
static void refuse_held(struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    client->held = false;
    request_cancel(request);
    turn_away(request, 0);
    client_touch(client);
}

void duplex_close(struct client *client, unsigned code, struct span reason)
{
    struct duplex *duplex = client->duplex;
    if (duplex->close_sent || client->state != CLIENT_OPEN)
        return;
    duplex_set_code(client, code);
    if (client->held) {
        refuse_held(client);
        return;
    }
    request_abandon_all(client); /* no answer may follow */
    if (client->session == SESSION_WEBSOCKET) {
        duplex_send_close(client, code, reason);
        duplex->heard_at = ctx_now(client->ctx); /* from now on the client's Close is waited for */
    } else {
        client->last_request = true;
        client_end(client);
    }
    client_touch(client);
}

void duplex_fail(struct client *client, unsigned code)
{
    struct duplex *duplex = client->duplex;
    if (client->session == SESSION_WEBSOCKET && !duplex->close_sent)
        duplex_send_close(client, code, (struct span){0});
    duplex_set_code(client, code);
    client->last_request = true;
    client_end(client);
    request_abandon_all(client);
}

void duplex_message(struct client *client, struct span payload, bool binary)
{
    struct duplex *duplex = client->duplex;
    if (duplex->close_sent)
        return;
    if (duplex->route->raw) {
        event_message(client, payload, binary);
        return;
    }
    if (binary) {
        refusal_note(client, REFUSED_BINARY);
        duplex_close(client, WS_CODE_UNSUPPORTED, SPAN("JSON-RPC is text"));
        return;
    }
    struct request *request = request_add(client, duplex->route);
    if (request == NULL)
        client_doom(client);
    else
        request_message(request, payload);
}

bool duplex_message_expired(struct client *client)
{
    if (client->pending == NULL || !client_may_start(client) ||
        client_pending_due(client) > ctx_now(client->ctx) || !client_too_slow(client))
        return false;
    refusal_note(client, CLOSED_SLOW_SENDER);
    duplex_fail(client, WS_CODE_POLICY);
    return true;
}

void duplex_resumed(struct client *client)
{
    struct duplex *duplex = client->duplex;
    if (duplex->close_sent)
        return;
    duplex->heard_at = ctx_now(client->ctx);
    duplex->pings = 0;
}

void duplex_drain(struct client *client)
{
    struct duplex *duplex = client->duplex;
    duplex->draining = true;
    if (list_empty(&client->requests))
        duplex_say_goodbye(client);
}

void duplex_reply(struct request *request, const struct reply *reply)
{
    struct client *client = request->client;
    struct duplex *duplex = client->duplex;
    if (reply->body.n > 0 && client->state <= CLIENT_HALF_CLOSED && !duplex->close_sent)
        duplex_send_text(client, reply->body);
    request_free(request);
    if (duplex->draining && list_empty(&client->requests))
        duplex_say_goodbye(client);
    client_touch(client);
}

void duplex_gone(struct client *client)
{
    struct duplex *duplex = client->duplex;
    struct ctx *ctx = client->ctx;
    if (duplex == NULL)
        return;
    if (duplex->announced)
        event_disconnected(client, duplex->code);
    if (duplex->dropped > 0)
        log_info("connection %llu ends: it read too slowly, %u pushes for it were dropped",
            (unsigned long long)client->conn.id, duplex->dropped);
    topics_leave(ctx->topics, &duplex->subscriptions, duplex->route->realm, (struct span){0});
    claims_put(duplex->claims);
    affinity_drop(client);
    mem_free(duplex->headers);
    idmap_remove(&ctx->conns, &client->conn);
    slab_put(&ctx->duplexes, duplex);
    client->duplex = NULL;
    client_set_session(client, SESSION_HTTP1);
}
