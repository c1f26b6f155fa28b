/*
 * What connections that stay have in common, whatever their framing: who they are to workers, what
 * is pushed to them, how they end. duplex_begin() makes a client one of them; with `connect: ask` a
 * worker is asked first, whose answer comes to asked(). Each message goes to the route's calls or,
 * with `messages: raw`, straight to a worker. After an error of the client's nothing more is read.
 */

#include "frontd/shard/session/duplex.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/utf8.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/conn_events.h"
#include "frontd/shard/request/request.h"

enum {
    OUT_WAITING = 4096, /* bytes that may wait before a push where memory is out */
};

void duplex_set_keep_alive(const struct client *client)
{
    uint64_t ping_ms = client->duplex->route->ping;
    int one = 1;
    int seconds = (int)MIN((ping_ms + 999) / 1000, (uint64_t)32767);
    int count = DUPLEX_PINGS_MAX - 1;
    unsigned timeout = (unsigned)MIN(ping_ms * DUPLEX_PINGS_MAX, (uint64_t)INT32_MAX);
    if (client->peer_family == AF_UNIX)
        return; /* the peer's end is always seen */
    setsockopt(client->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    setsockopt(client->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

int duplex_begin(struct client *client, const struct conf_route *route, enum session_kind kind)
{
    struct ctx *ctx = client->ctx;
    struct duplex *duplex = slab_get(&ctx->duplexes);
    if (duplex == NULL)
        return -ENOMEM;
    duplex->route = route;
    duplex->heard_at = ctx_now(ctx);
    idmap_add(&ctx->conns, &client->conn);
    client->duplex = duplex;
    client->session = (uint8_t)kind;
    duplex_set_keep_alive(client);
    return 0;
}

struct subscription **duplex_subscriptions(struct client *client)
{
    return &client->duplex->subscriptions;
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

size_t duplex_holds(const struct client *client)
{
    return topics_held(client->duplex->subscriptions) + duplex_headers(client).n;
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
    client->duplex->announced = true; /* an answer may cross its end */
    event_ask(request, client, head);
}

void duplex_announce(struct client *client, const struct http_head *head)
{
    client->duplex->announced = event_connected(client, head);
}

/* Back to HTTP, or to nothing. error: why no worker has let it in; 0: one does not want it. */
static void turn_away(struct request *request, enum rpc_error error)
{
    struct client *client = request->client;
    bool websocket = client->session == SESSION_WEBSOCKET;
    client_session(client)->gone(client);
    message_queue_free(&client->queue);
    request->keep_alive = false;
    client->last_request = true;
    if (!websocket) {
        request_free(request);
        client_end(client);
    } else if (error != 0) {
        request_error_status(request, error);
    } else {
        request_status(request, 403, (struct span){0});
    }
}

/* Whether it may be that a worker has taken the question, and answers with a result. */
static bool may_be_let_in(enum rpc_error error)
{
    return error == RPC_WORKER_LOST || error == RPC_DEADLINE_EXCEEDED || error == RPC_BAD_RESPONSE;
}

void duplex_say_goodbye(struct client *client)
{
    if (client->ctx->replaced)
        duplex_close(client, WS_CODE_RESTART, SPAN("restarting"));
    else
        duplex_close(client, WS_CODE_GOING_AWAY, SPAN("going away"));
}

void duplex_let_in(struct request *request)
{
    struct client *client = request->client;
    /* The end of a handshake goes out before what workers have pushed meanwhile, which is in the
     * queue. */
    if (buf_len(&request->batch) > 0 &&
        buf_append(&client->out, buf_data(&request->batch), buf_len(&request->batch)) < 0)
        client_doom(client);
    client_touch(client);
    request_free(request);
    if (client->duplex->draining)
        duplex_say_goodbye(client);
}

void duplex_asked(struct request *request, const struct outcome *outcome)
{
    struct client *client = request->client;
    struct jsonrpc_response response = {0};
    enum rpc_error error = call_read_answer(outcome, &response);
    client->held = false;
    client_touch(client);
    if (error == 0 && response.error.n == 0) {
        duplex_let_in(request);
        return;
    }
    if (!may_be_let_in(error))
        client->duplex->announced = false; /* no worker has it in its books */
    turn_away(request, error);
}

/* Sending */

/* A worker wants it gone before the one that is asked has answered: it is not let in. */
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
        duplex->heard_at = ctx_now(client->ctx); /* from now on the client's is waited for */
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

/* Where pushes are dropped for as long as it takes, the first one is told, too. */
static void count_dropped(struct client *client, size_t n)
{
    struct duplex *duplex = client->duplex;
    if (n > 0 && duplex->dropped == 0 && duplex->route->slow_drop) {
        char peer[64];
        client_peer_text(client, peer, sizeof(peer));
        log_info("connection %llu (%s) reads too slowly: the oldest pushes for it are dropped",
            (unsigned long long)client->conn.id, peer);
    }
    duplex->dropped += (uint32_t)MIN(n, (size_t)(UINT32_MAX - duplex->dropped));
    share_count(&client->ctx->count->dropped, n);
}

/* Drops the oldest pushes that wait, until at most `limit` bytes wait in all. */
static void drop_pushes(struct client *client, size_t limit)
{
    size_t own = buf_len(&client->out);
    if (client->queue != NULL)
        count_dropped(client, message_queue_drop(&client->queue, limit > own ? limit - own : 0));
}

void duplex_yield(struct client *client)
{
    if (client->duplex->route->slow_drop)
        drop_pushes(client, 0);
}

/* For a message that would make more than `limit` wait. Returns whether there is room now. */
static bool make_room(struct client *client, const struct message *message, size_t limit)
{
    size_t room = limit > message->len ? limit - message->len : 0;
    if (!client->duplex->route->slow_drop) {
        drop_pushes(client, 0);
        count_dropped(client, 1);
        refusal_note(client, CLOSED_SLOW_PUSH);
        duplex_close(client, WS_CODE_TRY_LATER, SPAN("too slow"));
        return false;
    }
    /* One that never fits takes no other's place; else it may be that answers alone fill it. */
    size_t before;
    do {
        before = client_waiting(client);
        if (message->len <= limit)
            drop_pushes(client, room + client_large(client, false));
    } while (client_waiting(client) < before); /* once more where the large one was dropped */
    if (message->len <= limit && before <= room + client_large(client, false))
        return true;
    count_dropped(client, 1);
    return false;
}

/*
 * Whether it may wait. Who has taken all that was sent before gets a message of any size that its
 * protocol has, and what follows is not held against that one: see client_large().
 */
static bool fits(const struct client *client, const struct message *message, size_t limit)
{
    size_t waiting = client_waiting(client);
    if (LIKELY(waiting + message->len <= limit))
        return true;
    if (waiting == 0)
        return duplex_payload(client->session, message) <= client->ctx->conf->limits.body;
    return waiting - client_large(client, false) + message->len <= limit;
}

static void push(struct client *client, struct message *message)
{
    size_t limit = client->ctx->conf->limits.write_buffer;
    if (client->state != CLIENT_OPEN || client->duplex->close_sent || client->moving)
        return;
    if (UNLIKELY(ctx_memory(client->ctx) == MEMORY_OUT)) /* nobody is to fall further behind */
        limit = MIN(limit, message->len + (size_t)OUT_WAITING);
    /* Much in one turn does not make a consumer slow: what the kernel takes does not wait. */
    if (client_waiting(client) + message->len > limit && !client_write(client))
        return;
    if (!fits(client, message, limit) && !make_room(client, message, limit))
        return;
    if (client_add_message(client, message) < 0)
        client_doom(client);
}

/* What workers can make happen with every message. */
static struct log_limit not_utf8;

void duplex_deliver(struct client *client, struct shared *shared)
{
    struct ctx *ctx = client->ctx;
    enum session_kind kind = client->session;
    struct message **message = &shared->encoded[kind];
    if (shared->refused && kind == SESSION_WEBSOCKET)
        return;
    if (*message == NULL && kind == SESSION_WEBSOCKET && !shared->binary &&
        !utf8_valid(shared->payload.p, shared->payload.n)) {
        shared->refused = true;
        log_limited(&not_utf8, ctx_now(ctx), LOG_WARNING,
            "a worker pushes text that is not UTF-8: it is not sent to WebSockets");
        return;
    }
    if (*message == NULL)
        *message = duplex_encode(kind, shared->payload, shared->binary, true);
    if (*message == NULL)
        return;
    bool written = !client->touched && !client_blocked(client);
    ctx->work += (written ? WORK_WRITE : 1) + ((*message)->len >> WORK_SHIFT);
    push(client, *message);
}

/* Receiving */

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
    mem_free(duplex->headers);
    idmap_remove(&ctx->conns, &client->conn);
    slab_put(&ctx->duplexes, duplex);
    client->duplex = NULL;
    client->session = SESSION_HTTP1;
}
