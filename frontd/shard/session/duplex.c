/*
 * stay_open() begins frame and line connections, stay_upgrade() WebSockets: the handshake is
 * checked, with `connect: ask` a worker is asked, then the answer 101 goes out and the client's
 * session becomes stay_session. take() gives each message to the scanner (rpc.c) or, on a route
 * with `messages: raw`, straight to a worker.
 *
 * A WebSocket ends with Close frames in both directions: stay_close() sends ours and waits a while
 * for the client's; a client's is answered and ends the connection. After an error of the client's
 * nothing more is read.
 *
 * Messages that may not be started yet wait where they were read to, and ahead() looks for what is
 * not to wait with them: Pings and heartbeats are answered, out of their order. A Close ends all
 * calls in progress; then what lies before it is taken up as usual, and the Close in its turn.
 *
 * Half-open connections: a WebSocket that was silent for the ping interval is sent a Ping, after
 * two intervals another, and is lost after three. The kernel's keep-alive does the same, for the
 * other kinds, whose protocol has no question that every client answers, and for a WebSocket while
 * it is not read at all.
 */

#include "frontd/shard/session/duplex.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/codec/cross_site.h"
#include "frontd/codec/ws_handshake.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/conn_events.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/routes/jsonrpc.h"
#include "frontd/shard/session/http1_session.h"
#include "frontd/shard/upstream/worker.h"

enum {
    CLOSE_MS = 5000,    /* for the client's Close after ours */
    PINGS_MAX = 3,      /* without a sign of life */
    OUT_WAITING = 4096, /* bytes that may wait before a push where memory is out */
    JITTER_PARTS = 8,   /* a ping comes up to an eighth of the interval early */
};

void stay_set_keep_alive(const struct client *client)
{
    uint64_t ping_ms = client->stay->route->ping;
    int one = 1;
    int seconds = (int)MIN((ping_ms + 999) / 1000, (uint64_t)32767);
    int count = PINGS_MAX - 1;
    unsigned timeout = (unsigned)MIN(ping_ms * PINGS_MAX, (uint64_t)INT32_MAX);
    if (client->peer_family == AF_UNIX)
        return; /* the peer's end is always seen */
    setsockopt(client->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    setsockopt(client->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    setsockopt(client->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
}

/* The client becomes one that stays. */
static int begin(struct client *client, const struct conf_route *route, enum stay_kind kind)
{
    struct ctx *ctx = client->ctx;
    struct stay *stay = slab_get(&ctx->stays);
    if (stay == NULL)
        return -ENOMEM;
    stay->route = route;
    stay->kind = (uint8_t)kind;
    stay->heard_at = ctx_now(ctx);
    idmap_add(&ctx->conns, &client->conn);
    client->stay = stay;
    stay_set_keep_alive(client);
    return 0;
}

struct subscription *stay_subscriptions(const struct client *client)
{
    return client->stay->subscriptions;
}

size_t stay_held(const struct stay *stay)
{
    return topics_held(stay->subscriptions) + (stay->headers == NULL ? 0 : strlen(stay->headers));
}

struct client *stay_find(struct ctx *ctx, uint64_t conn)
{
    struct idmap_node *node = idmap_find(&ctx->conns, conn);
    struct client *client = node == NULL ? NULL : container_of(node, struct client, conn);
    return client == NULL || client->moving ? NULL : client;
}

int stay_open(struct client *client)
{
    const struct conf_route *route = &client->listener->routes[0];
    bool frame = client->listener->protocol == CONF_PROTOCOL_FRAME;
    if (begin(client, route, frame ? STAY_FRAME : STAY_LINE) < 0)
        return -ENOMEM;
    if (!route->events)
        return 0;
    if (!route->connect_ask) {
        event_connected(client, NULL);
        return 0;
    }
    struct request *request = request_add(client, route);
    if (request == NULL)
        return -ENOMEM;
    client->held = true;
    client_set_used(client); /* a worker decides what becomes of it */
    event_ask(request, client, NULL);
    return 0;
}

/* Handshake */

static int put_switching(struct buf *out, struct ctx *ctx, const char *accept, const char *protocol)
{
    return buf_printf(out,
        "HTTP/1.1 101 Switching Protocols\r\nServer: frontd\r\nDate: %s\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
        ctx_date(ctx), accept,
        protocol == NULL ? "" : "Sec-WebSocket-Protocol: ", protocol == NULL ? "" : protocol,
        protocol == NULL ? "" : "\r\n");
}

/* Calls of the connection are given the headers of its handshake. */
static int keep_headers(struct stay *stay, const struct http1_head *head)
{
    struct buf text = {0};
    if (stay->route->nheaders == 0)
        return 0;
    if (buf_append(&text, "{", 1) == 0 && meta_put_headers(&text, stay->route, head) == 0 &&
        buf_append(&text, "}", 1) == 0)
        stay->headers = mem_strndup(buf_data(&text), buf_len(&text));
    buf_deinit(&text);
    return stay->headers == NULL ? -ENOMEM : 0;
}

/* The handshake is over: the answer that was made ready goes out. */
static void switch_protocols(struct request *request)
{
    struct client *client = request->client;
    /* Before what workers have pushed meanwhile, which is in the queue. */
    if (buf_append(&client->out, buf_data(&request->batch), buf_len(&request->batch)) < 0)
        client_doom(client);
    client_touch(client);
    request_free(request);
}

static void refuse_upgrade(struct request *request, unsigned status)
{
    const struct span upgrade = SPAN(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    request_status(request, status, status == 426 ? upgrade : (struct span){0});
}

void stay_upgrade(struct request *request, const struct http1_head *head)
{
    struct client *client = request->client;
    const struct conf_route *route = request->route;
    char accept[WS_ACCEPT_SIZE];
    int protocol = -1;
    int status = ws_wanted(head) ? ws_handshake(head, route->origins, route->norigins,
                                       route->protocols, route->nprotocols, accept, &protocol)
                                 : 426;
    if (status == 0 && route->cross_site_refuse && cross_site_foreign(head))
        status = 403;
    if (status == 0 && client->requests.next != &request->node) {
        http_wait(request, head);
        return;
    }
    if (status == 0 && (client->ctx->draining || ctx_memory(client->ctx) >= MEMORY_SHORT))
        status = 503;
    if (status != 0) {
        refuse_upgrade(request, (unsigned)status);
        return;
    }
    if (put_switching(&request->batch, client->ctx, accept,
            protocol < 0 ? NULL : route->protocols[protocol]) < 0 ||
        begin(client, route, STAY_WEBSOCKET) < 0) {
        refuse_upgrade(request, 503);
        return;
    }
    client->last_request = false; /* Connection: close was said of a connection that speaks HTTP */
    if (keep_headers(client->stay, head) < 0) {
        client_doom(client);
        return;
    }
    if (route->events && route->connect_ask) {
        client->held = true;
        event_ask(request, client, head);
        return;
    }
    if (route->events)
        event_connected(client, head);
    switch_protocols(request);
}

/* Back to HTTP, or to nothing. error: why no worker has let it in; 0: one does not want it. */
static void turn_away(struct request *request, enum rpc_error error)
{
    struct client *client = request->client;
    struct stay *stay = client->stay;
    bool websocket = stay->kind == STAY_WEBSOCKET;
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

void stay_say_goodbye(struct client *client)
{
    if (client->ctx->replaced)
        stay_close(client, WS_CODE_RESTART, SPAN("restarting"));
    else
        stay_close(client, WS_CODE_GOING_AWAY, SPAN("going away"));
}

static void let_in(struct request *request)
{
    struct client *client = request->client;
    if (client->stay->kind == STAY_WEBSOCKET)
        switch_protocols(request);
    else
        request_free(request);
    if (client->stay->draining)
        stay_say_goodbye(client);
}

void stay_asked(struct request *request, const struct outcome *outcome)
{
    struct client *client = request->client;
    struct jsonrpc_response response = {0};
    enum rpc_error error = call_read_answer(outcome, &response);
    client->held = false;
    client_touch(client);
    if (error == 0 && response.error.n == 0) {
        let_in(request);
        return;
    }
    if (!may_be_let_in(error))
        client->stay->announced = false; /* no worker has it in its books */
    turn_away(request, error);
}

/* Sending */

static void abandon_requests(struct client *client)
{
    list_for_each_safe (node, &client->requests)
        request_abandon(container_of(node, struct request, node));
}

/* A worker wants it gone before the one that is asked has answered: it is not let in. */
static void refuse_held(struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    client->held = false;
    request_cancel(request);
    turn_away(request, 0);
    client_touch(client);
}

void stay_close(struct client *client, unsigned code, struct span reason)
{
    struct stay *stay = client->stay;
    if (stay->close_sent || client->state != CLIENT_OPEN)
        return;
    if (stay->code == 0)
        stay->code = (uint16_t)code;
    if (client->held) {
        refuse_held(client);
        return;
    }
    abandon_requests(client); /* no answer may follow */
    if (stay->kind == STAY_WEBSOCKET) {
        stay_send_close(client, code, reason);
        stay->heard_at = ctx_now(client->ctx); /* the client's has CLOSE_MS from now */
    } else {
        client->last_request = true;
        client_end(client);
    }
    client_touch(client);
}

/* An error of the client's: it is told the code, and nothing more is read. */
static void fail(struct client *client, unsigned code)
{
    struct stay *stay = client->stay;
    if (stay->kind == STAY_WEBSOCKET && !stay->close_sent)
        stay_send_close(client, code, (struct span){0});
    if (stay->code == 0)
        stay->code = (uint16_t)code;
    client->last_request = true;
    client_end(client);
    abandon_requests(client);
}

/* Where pushes are dropped for as long as it takes, the first one is told, too. */
static void count_dropped(struct client *client, size_t n)
{
    struct stay *stay = client->stay;
    if (n > 0 && stay->dropped == 0 && stay->route->slow_drop) {
        char peer[64];
        client_peer_text(client, peer, sizeof(peer));
        log_info("connection %llu (%s) reads too slowly: the oldest pushes for it are dropped",
            (unsigned long long)client->conn.id, peer);
    }
    stay->dropped += (uint32_t)MIN(n, (size_t)(UINT32_MAX - stay->dropped));
    share_count(&client->ctx->count->dropped, n);
}

/* Drops the oldest pushes that wait, until at most `limit` bytes wait in all. */
static void drop_pushes(struct client *client, size_t limit)
{
    size_t own = buf_len(&client->out);
    if (client->queue != NULL)
        count_dropped(client, message_queue_drop(&client->queue, limit > own ? limit - own : 0));
}

void stay_yield(struct client *client)
{
    if (client->stay->route->slow_drop)
        drop_pushes(client, 0);
}

/* For a message that would make more than `limit` wait. Returns whether there is room now. */
static bool make_room(struct client *client, const struct message *message, size_t limit)
{
    size_t room = limit > message->len ? limit - message->len : 0;
    if (!client->stay->route->slow_drop) {
        drop_pushes(client, 0);
        count_dropped(client, 1);
        refusal_note(client, CLOSED_SLOW_PUSH);
        stay_close(client, WS_CODE_TRY_LATER, SPAN("too slow"));
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
        return stay_payload(client->stay->kind, message) <= client->ctx->conf->limits.body;
    return waiting - client_large(client, false) + message->len <= limit;
}

void stay_push(struct client *client, struct message *message)
{
    size_t limit = client->ctx->conf->limits.write_buffer;
    if (client->state != CLIENT_OPEN || client->stay->close_sent || client->moving)
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

/* Receiving */

static void on_message(struct client *client, struct span payload, bool binary)
{
    struct stay *stay = client->stay;
    if (stay->close_sent)
        return;
    if (stay->route->raw) {
        event_message(client, payload, binary);
        return;
    }
    if (binary) {
        refusal_note(client, REFUSED_BINARY);
        stay_close(client, WS_CODE_UNSUPPORTED, SPAN("JSON-RPC is text"));
        return;
    }
    struct request *request = request_add(client, stay->route);
    if (request == NULL)
        client_doom(client);
    else
        rpc_start(request, NULL, payload);
}

static void on_control(struct client *client, const struct ws_result *result)
{
    struct stay *stay = client->stay;
    if (result->opcode == WS_PING && !stay->close_sent)
        stay_send_control(client, WS_PONG, result->payload);
    if (result->opcode != WS_CLOSE)
        return;
    if (stay->code == 0)
        stay->code = result->code;
    if (!stay->close_sent)
        stay_send_close(client, result->code, (struct span){0});
    client->last_request = true;
    client_end(client);
    abandon_requests(client);
}

static struct ws_limits limits_of(const struct client *client)
{
    uint32_t limit = client->ctx->conf->limits.body;
    return (struct ws_limits){.message = limit, .frame = limit};
}

static size_t take_ws(struct client *client, struct ws *ws, char *p, size_t n, char **ret_rest)
{
    const struct ws_limits limits = limits_of(client);
    char control[WS_CONTROL_MAX];
    while (n > 0 && client_takes(client)) {
        struct ws_result result = ws_feed(ws, p, n, &limits, control);
        if (result.event == WS_EVENT_MESSAGE) {
            on_message(client, result.payload, result.opcode == WS_BINARY);
            p += result.used;
            n -= result.used;
        } else if (result.event == WS_EVENT_ERROR) {
            refusal_note(
                client, result.code == WS_CODE_TOO_BIG ? REFUSED_TOO_LARGE : REFUSED_WEBSOCKET);
            fail(client, result.code);
            n = 0;
        } else {
            n = result.kept;
            if (result.event == WS_EVENT_MORE)
                break;
            on_control(client, &result);
        }
    }
    *ret_rest = p;
    return n;
}

/* What comes before the Close may be started: no answer to what was asked before is wanted. */
static void make_way_for_close(struct client *client)
{
    abandon_requests(client);
    if (client_may_start(client)) { /* else when more of what waits has been written */
        client->paused = true;
        client->yields = true; /* it comes by here again for each calls_per_connection of them */
        client_touch(client);
    }
}

static size_t look_ahead_ws(struct client *client, struct ws *ws, char *p, size_t n)
{
    const struct ws_limits limits = limits_of(client);
    char control[WS_CONTROL_MAX];
    size_t hole = 0;
    for (;;) {
        unsigned opcodes = 0;
        if (client_answers_ahead(client))
            opcodes = 1U << WS_CLOSE | 1U << WS_PONG |
                      (unsigned)client_has_space(client) << WS_PING;
        struct ws_result result = ws_ahead(ws, p, n, &limits, opcodes, &hole, control);
        if (result.event == WS_EVENT_CONTROL && result.opcode != WS_CLOSE) {
            on_control(client, &result);
            continue;
        }
        if (result.event == WS_EVENT_CONTROL)
            make_way_for_close(client);
        return result.kept;
    }
}

static struct line_result feed_line(
    const struct client *client, size_t *scanned, const char *p, size_t n)
{
    uint32_t limit = client->ctx->conf->limits.body;
    if (client->stay->kind == STAY_FRAME)
        return line_feed_frame(p, n, limit);
    return line_feed_line(p, n, limit, scanned);
}

/* An error that belongs to no request. */
static void send_error(struct client *client, enum rpc_error error)
{
    struct buf text = {0};
    if (rpc_error_write(&text, error, (struct span){0}) == 0)
        stay_send_text(client, (struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
}

static void refuse_too_big(struct client *client)
{
    refusal_note(client, REFUSED_TOO_LARGE);
    send_error(client, RPC_TOO_LARGE);
    fail(client, WS_CODE_TOO_BIG);
}

/* Behind that line may be calls that a page has put into the body of a request. */
static void refuse_foreign(struct client *client)
{
    static struct log_limit limit;
    log_limited(&limit, ctx_now(client->ctx), LOG_INFO,
        "listener %s: a client speaks HTTP or TLS, its connection is closed",
        client->listener->name);
    send_error(client, RPC_PARSE_ERROR);
    fail(client, WS_CODE_POLICY);
}

/* A message, a heartbeat, or what is too big for a message. Returns whether more may follow. */
static bool take_line(struct client *client, const struct line_result *result)
{
    bool line = client->stay->kind == STAY_LINE;
    if (result->event == LINE_TOO_BIG) {
        refuse_too_big(client);
        return false;
    }
    if (line && !client->stay->route->raw && UNLIKELY(line_is_foreign(result->payload))) {
        refuse_foreign(client);
        return false;
    }
    if (result->event == LINE_MESSAGE || (line && client->stay->route->raw))
        on_message(client, result->payload, false);
    else if (!line)
        stay_send_text(client, (struct span){0}); /* a heartbeat is echoed */
    return true;
}

static size_t take_lines(struct client *client, size_t *scanned, char *p, size_t n, char **ret_rest)
{
    while (n > 0 && client_takes(client)) {
        struct line_result result = feed_line(client, scanned, p, n);
        if (result.event == LINE_MORE)
            break;
        if (!take_line(client, &result)) {
            n = 0;
            break;
        }
        *scanned -= MIN(*scanned, result.used);
        p += result.used;
        n -= result.used;
    }
    *ret_rest = p;
    return n;
}

static size_t look_ahead_frames(struct client *client, size_t *looked, char *p, size_t n)
{
    uint32_t limit = client->ctx->conf->limits.body;
    size_t hole = 0, kept = n;
    while (line_ahead_frame(p, n, limit, looked, &hole, &kept)) {
        stay_send_text(client, (struct span){0});
        if (!client_answers_ahead(client) || !client_has_space(client))
            return line_ahead_end(p, n, *looked, &hole);
    }
    return kept;
}

/* No message may be started now. Returns how many bytes are left at `p`. */
static size_t ahead(struct client *client, union codec_state *codec, char *p, size_t n)
{
    if (client->state != CLIENT_OPEN || client->last_request || client->held)
        return n;
    switch ((enum stay_kind)client->stay->kind) {
    case STAY_WEBSOCKET: return look_ahead_ws(client, &codec->ws, p, n);
    case STAY_FRAME:
        if (!client_has_space(client))
            return n;
        return look_ahead_frames(client, &codec->scanned, p, n);
    default: return n; /* an empty line says nothing */
    }
}

static size_t take(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    struct stay *stay = client->stay;
    if (!stay->close_sent)
        stay->heard_at = ctx_now(client->ctx);
    stay->pings = 0;
    if (stay->kind == STAY_WEBSOCKET)
        n = take_ws(client, &codec->ws, p, n, ret_rest);
    else
        n = take_lines(client, &codec->scanned, p, n, ret_rest);
    return n == 0 || client_may_start(client) ? n : ahead(client, codec, *ret_rest, n);
}

/* A WebSocket's frame heads are taken out of the message as they are read. */
static bool midway(const union codec_state *codec, const struct client *client)
{
    return client->stay->kind == STAY_WEBSOCKET && client->state == CLIENT_OPEN &&
           !client->last_request && (codec->ws.in_frame || codec->ws.opcode != 0);
}

static void waiting(struct client *client)
{
    (void)client;
}

/*
 * What it has sent of a last message: a line ends where its client's side does, as if a line end
 * were there; a frame has been cut, which its client is told.
 */
static void end_message(struct client *client)
{
    struct pending *pending = client->pending;
    if (client->stay->kind == STAY_FRAME) {
        send_error(client, RPC_PARSE_ERROR);
        return;
    }
    if (buf_append(&pending->bytes, "\n", 1) < 0) {
        client_doom(client);
        return;
    }
    struct line_result result = feed_line(
        client, &pending->codec.scanned, buf_data(&pending->bytes), buf_len(&pending->bytes));
    take_line(client, &result);
}

static bool input_ended(struct client *client)
{
    if (stay_ends_at_once(client))
        return false;
    if (client->pending != NULL && client_may_start(client))
        end_message(client);
    return true;
}

/* Pings of many connections that came at the same moment do not go out at the same moment. */
static uint64_t early(const struct client *client)
{
    const struct stay *stay = client->stay;
    uint64_t mixed = client->conn.id * 0x9e3779b97f4a7c15ULL >> 32;
    return mixed % (stay->route->ping / JITTER_PARTS + 1);
}

/* When a silent WebSocket is sent the next Ping, or is lost after the last. */
static uint64_t next_ping(const struct client *client)
{
    const struct stay *stay = client->stay;
    uint64_t at = stay->heard_at + stay->route->ping * (stay->pings + 1U);
    return stay->pings == 0 ? at - early(client) : at;
}

void stay_resume(struct client *client)
{
    struct stay *stay = client->stay;
    if (stay->close_sent)
        return;
    stay->heard_at = ctx_now(client->ctx);
    stay->pings = 0;
}

static uint64_t due(const struct client *client)
{
    const struct stay *stay = client->stay;
    if (stay->close_sent)
        return stay->heard_at + CLOSE_MS;
    uint64_t at = UINT64_MAX;
    if (client->pending != NULL && client_may_start(client))
        at = client_pending_due(client);
    if (stay->kind != STAY_WEBSOCKET || !client_is_read(client))
        return at; /* its Pong could not be heard */
    return MIN(at, next_ping(client));
}

static void expire(struct client *client)
{
    struct stay *stay = client->stay;
    uint64_t now = ctx_now(client->ctx);
    if (stay->close_sent) {
        if (client_waiting(client) == 0)
            client_leave(client); /* it may not have got as far as our Close */
        else
            client_doom(client);
        return;
    }
    if (client->pending != NULL && client_may_start(client) && client_pending_due(client) <= now &&
        client_too_slow(client)) {
        refusal_note(client, CLOSED_SLOW_SENDER);
        fail(client, WS_CODE_POLICY);
        return;
    }
    if (stay->kind != STAY_WEBSOCKET || !client_is_read(client) || now < next_ping(client))
        return;
    if (stay->pings >= PINGS_MAX - 1) {
        refusal_note(client, CLOSED_SILENT);
        client_doom(client); /* lost: 1006 */
        return;
    }
    stay->pings++;
    /* One that goes out late, since this process was held up, leaves as long for its answer. */
    stay->heard_at = MAX(stay->heard_at, now - MIN(now, stay->pings * stay->route->ping));
    stay_send_control(client, WS_PING, (struct span){0});
}

static void drain(struct client *client)
{
    struct stay *stay = client->stay;
    stay->draining = true;
    if (list_empty(&client->requests))
        stay_say_goodbye(client);
}

static void reply(struct request *request, const struct reply *reply)
{
    struct client *client = request->client;
    struct stay *stay = client->stay;
    if (reply->body.n > 0 && client->state <= CLIENT_HALF_CLOSED && !stay->close_sent)
        stay_send_text(client, reply->body);
    request_free(request);
    if (stay->draining && list_empty(&client->requests))
        stay_say_goodbye(client);
    client_touch(client);
}

static void gone(struct client *client)
{
    struct stay *stay = client->stay;
    struct ctx *ctx = client->ctx;
    if (stay == NULL)
        return;
    if (stay->announced)
        event_disconnected(client);
    if (stay->dropped > 0)
        log_info("connection %llu ends: it read too slowly, %u pushes for it were dropped",
            (unsigned long long)client->conn.id, stay->dropped);
    topics_leave(&stay->subscriptions, stay->route->realm, (struct span){0});
    mem_free(stay->headers);
    idmap_remove(&ctx->conns, &client->conn);
    slab_put(&ctx->stays, stay);
    client->stay = NULL;
}

const struct session_ops stay_session = {
    .take = take,
    .ahead = ahead,
    .midway = midway,
    .waiting = waiting,
    .input_ended = input_ended,
    .due = due,
    .expire = expire,
    .drain = drain,
    .reply = reply,
    .gone = gone,
};
