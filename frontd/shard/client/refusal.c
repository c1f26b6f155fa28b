#include "frontd/shard/client/refusal.h"

#include "common/log.h"
#include "frontd/shard/net/incident.h"

enum { METHOD_SHOWN = 64 /* bytes of a method in the log */ };

static const struct {
    enum log_level level;
    const char *text;
} kinds[REFUSALS] = {
    [REFUSED_NOT_JSON] = {LOG_INFO, "a request is refused that is no JSON (-32700)"},
    [REFUSED_NOT_RPC] = {LOG_INFO, "a request is refused that is not JSON-RPC 2.0 (-32600)"},
    [REFUSED_METHOD] = {LOG_INFO,
        "a call is refused, no pool of the route takes its method (-32601)"},
    [REFUSED_TOO_LARGE] = {LOG_INFO, "a request is refused that is too large (-32005, 413, 1009)"},
    [REFUSED_OVERLOADED] = {LOG_WARNING, "a request is refused for want of room (-32001, 503)"},
    [REFUSED_TOO_LATE] = {LOG_WARNING, "a call has had no answer in time (-32003, 504)"},
    [REFUSED_NO_ROUTE] = {LOG_INFO, "a request is refused, there is no route for it (404)"},
    [REFUSED_VERB] = {LOG_INFO, "a request is refused, the route does not take its method (405)"},
    [REFUSED_FORBIDDEN] = {LOG_INFO,
        "a request is refused, its origin, its address or a worker says no (403, -32009)"},
    [REFUSED_UPGRADE] = {LOG_INFO, "a request is refused that is no upgrade to WebSocket (426)"},
    [REFUSED_HTTP] = {LOG_INFO,
        "a request is refused, its HTTP is wrong (400, 414, 415, 417, 431, 501, 505)"},
    [REFUSED_BUSY] = {LOG_WARNING, "a request is refused for now (503)"},
    [REFUSED_WEBSOCKET] = {LOG_INFO,
        "a client breaks the protocol of WebSocket (1002, 1007), its connection is closed"},
    [REFUSED_HTTP2] = {LOG_INFO,
        "a client breaks the protocol of HTTP/2, its stream or connection is closed"},
    [REFUSED_HTTP2_FLOOD] = {LOG_WARNING,
        "a client sends too much that HTTP/2 has no use for, its connection is closed"},
    [REFUSED_STREAMS] = {LOG_INFO, "a stream is refused, its connection has limits.streams open"},
    [REFUSED_BINARY] = {LOG_INFO,
        "a client sends a binary message, its connection is closed (1003)"},
    [REFUSED_PEER_LIMIT] = {LOG_WARNING,
        "a connection is closed at once, its peer has limits.connections_per_peer (a WebSocket "
        "behind a proxy: 429)"},
    [REFUSED_ADDRESS] = {LOG_INFO,
        "a connection is closed at once, the listener is not for its address (allow, deny)"},
    [REFUSED_TOKEN] = {LOG_INFO, "a request is refused for its token (401, -32008)"},
    [CLOSED_TOKEN_ENDED] = {LOG_INFO, "a WebSocket is closed whose token has ended (1008)"},
    [CLOSED_SLOW_READER] = {LOG_INFO, "a client is closed that does not read what waits for it"},
    [CLOSED_SLOW_PUSH] = {LOG_INFO,
        "a client is closed that reads too slowly what is pushed to it (1013)"},
    [CLOSED_SLOW_SENDER] = {LOG_INFO,
        "a client is closed whose request or message does not come on (408, 1008)"},
    [CLOSED_NO_BYTE] = {LOG_INFO,
        "a client is closed from which nothing has come (limits.first_byte_timeout)"},
    [CLOSED_SILENT] = {LOG_INFO, "a client is closed that gives no sign of life (1006)"},
    [CLOSED_HANDSHAKE] = {LOG_INFO,
        "a client is closed whose TLS handshake does not come on (tls: handshake_timeout)"},
    [REFUSED_NOT_TLS] = {LOG_INFO, "a client is refused that speaks no TLS"},
    [REFUSED_NOT_SHARED] = {LOG_INFO,
        "a TLS handshake fails, there is nothing that both sides know"},
    [REFUSED_CERTIFICATE] = {LOG_INFO, "a TLS handshake fails, by the client's certificate"},
    [REFUSED_BY_CLIENT] = {LOG_INFO, "TLS ends, the client gives up"},
    [REFUSED_TLS] = {LOG_INFO, "TLS ends, the client breaks the protocol"},
    [FAILED_TLS] = {LOG_ERROR, "TLS ends, by a fault of this side"},
    [REFUSED_NO_PROXY] = {LOG_WARNING,
        "a connection is closed at once, its peer is none of trusted_proxies (proxy_protocol)"},
    [REFUSED_HEADER] = {LOG_WARNING,
        "a connection is closed that does not begin with a right PROXY header (proxy_protocol)"},
    [CLOSED_NO_HEADER] = {LOG_WARNING,
        "a connection is closed on which no PROXY header has come (limits.first_byte_timeout)"},
};

static struct log_limit limits[REFUSALS];

_Static_assert((unsigned)REFUSALS == (unsigned)METRIC_REFUSAL_COUNT, "as METRIC_REFUSALS");

/* Counts it. Returns whether it is not logged now. */
static bool is_silent(struct ctx *ctx, enum refusal kind, uint64_t now)
{
    share_count(&ctx->count->refusals[kind], 1);
    if (now >= limits[kind].again_at)
        return false;
    limits[kind].skipped++;
    return true;
}

void refusal_note_peer(struct ctx *ctx, const struct conf_listener *listener,
    const struct peer *peer, enum refusal kind)
{
    uint64_t now = ctx_now(ctx);
    char text[PEER_TEXT_SIZE];
    incident_note(ctx, listener, peer, kinds[kind].text, NULL);
    if (is_silent(ctx, kind, now))
        return;
    peer_text(peer, text);
    log_limited(&limits[kind], now, kinds[kind].level, "listener %s: %s: %s", listener->name, text,
        kinds[kind].text);
}

/* Why a connection is closed for it. What refuses a request only closes none. */
static void note_reason(struct client *client, enum refusal kind)
{
    switch (kind) {
    case CLOSED_SLOW_READER:
    case CLOSED_SLOW_PUSH:
    case CLOSED_SLOW_SENDER: client_because(client, METRIC_REASON_SLOW); break;
    case CLOSED_NO_BYTE:
    case CLOSED_SILENT:
    case CLOSED_HANDSHAKE:
    case CLOSED_NO_HEADER: client_because(client, METRIC_REASON_IDLE); break;
    case REFUSED_STREAMS: break;
    default: client_because(client, METRIC_REASON_REFUSED); break;
    }
}

void refusal_note(struct client *client, enum refusal kind)
{
    note_reason(client, kind);
    struct peer peer = client_peer(client);
    refusal_note_peer(client->ctx, client_listener(client), &peer, kind);
}

void refusal_note_method(const struct client *client, const struct peer *peer, struct span method)
{
    uint64_t now = ctx_now(client->ctx);
    char text[PEER_TEXT_SIZE];
    incident_show(client->ctx, INCIDENT_TEXT, method);
    incident_note(
        client->ctx, client_listener(client), peer, kinds[REFUSED_METHOD].text, "this method");
    incident_hide(client->ctx);
    if (is_silent(client->ctx, REFUSED_METHOD, now))
        return;
    peer_text(peer, text);
    log_limited(&limits[REFUSED_METHOD], now, kinds[REFUSED_METHOD].level,
        "listener %s: %s: %s: `%.*s`", client_listener(client)->name, text,
        kinds[REFUSED_METHOD].text, (int)MIN(method.n, (size_t)METHOD_SHOWN), method.p);
}

void refusal_note_what(struct client *client, enum refusal kind, const char *what)
{
    uint64_t now = ctx_now(client->ctx);
    char peer[PEER_TEXT_SIZE];
    note_reason(client, kind);
    struct peer from = client_peer(client);
    incident_note(client->ctx, client_listener(client), &from, kinds[kind].text, what);
    if (is_silent(client->ctx, kind, now))
        return;
    client_peer_text(client, peer);
    log_limited(&limits[kind], now, kinds[kind].level, "listener %s: %s: %s: %s",
        client_listener(client)->name, peer, kinds[kind].text, what);
}

void refusal_note_token(const struct client *client, const struct peer *peer, const char *why)
{
    uint64_t now = ctx_now(client->ctx);
    char text[PEER_TEXT_SIZE];
    incident_note(client->ctx, client_listener(client), peer, kinds[REFUSED_TOKEN].text, why);
    if (is_silent(client->ctx, REFUSED_TOKEN, now))
        return;
    peer_text(peer, text);
    log_limited(&limits[REFUSED_TOKEN], now, kinds[REFUSED_TOKEN].level, "listener %s: %s: %s: %s",
        client_listener(client)->name, text, kinds[REFUSED_TOKEN].text, why);
}

void refusal_note_tls(struct client *client, const struct tls_failure *failure)
{
    static const enum refusal refusals[] = {
        [TLS_FAILURE_NOT_TLS] = REFUSED_NOT_TLS,
        [TLS_FAILURE_NOT_SHARED] = REFUSED_NOT_SHARED,
        [TLS_FAILURE_CERTIFICATE] = REFUSED_CERTIFICATE,
        [TLS_FAILURE_ALERT] = REFUSED_BY_CLIENT,
        [TLS_FAILURE_HANDSHAKE] = REFUSED_TLS,
        [TLS_FAILURE_SILENT] = CLOSED_HANDSHAKE,
        [TLS_FAILURE_RECORD] = REFUSED_TLS,
        [TLS_FAILURE_INTERNAL] = FAILED_TLS,
    };
    refusal_note_what(client, refusals[failure->kind], failure->text);
}

/* What is noted of an error of the front; REFUSALS: nothing, since the pool has said it, or the
 * worker's line does. */
static enum refusal kind_of_error(enum rpc_error error)
{
    switch (error) {
    case RPC_PARSE_ERROR: return REFUSED_NOT_JSON;
    case RPC_INVALID_REQUEST: return REFUSED_NOT_RPC;
    case RPC_TOO_LARGE: return REFUSED_TOO_LARGE;
    case RPC_OVERLOADED: return REFUSED_OVERLOADED;
    case RPC_DEADLINE_EXCEEDED: return REFUSED_TOO_LATE;
    case RPC_FORBIDDEN: return REFUSED_FORBIDDEN;
    default: return REFUSALS;
    }
}

/* What is noted of a status; REFUSALS: nothing, since it is of a worker's answer, or its want. */
static enum refusal kind_of_status(unsigned status)
{
    switch (status) {
    case 401: return REFUSALS; /* refusal_note_token() has noted it */
    case 403: return REFUSED_FORBIDDEN;
    case 404: return REFUSED_NO_ROUTE;
    case 405: return REFUSED_VERB;
    case 408: return CLOSED_SLOW_SENDER;
    case 413: return REFUSED_TOO_LARGE;
    case 426: return REFUSED_UPGRADE;
    case 429: return REFUSED_PEER_LIMIT;
    case 503: return REFUSED_BUSY;
    case 500:
    case 502:
    case 504: return REFUSALS;
    default: return REFUSED_HTTP;
    }
}

void refusal_note_error(const struct client *client, const struct peer *peer, enum rpc_error error)
{
    enum refusal kind = kind_of_error(error);
    if (kind != REFUSALS)
        refusal_note_peer(client->ctx, client_listener(client), peer, kind);
}

void refusal_note_status(const struct client *client, const struct peer *peer, unsigned status)
{
    enum refusal kind = kind_of_status(status);
    if (kind != REFUSALS)
        refusal_note_peer(client->ctx, client_listener(client), peer, kind);
}

void refusal_tell(uint64_t now)
{
    for (unsigned i = 0; i < REFUSALS; i++)
        log_limit_flush(&limits[i], now, kinds[i].level, kinds[i].text);
}
