/*
 * The session of a WebSocket (RFC 6455). It ends with Close frames in both directions (section
 * 7.1): duplex_close() sends ours, and the client has CLOSE_MS for its own; a client's Close is
 * answered and ends the connection.
 *
 * Messages that may not be started yet wait in client->pending, and ahead() looks for what does not
 * wait with them: Pings are answered, out of their order. A Close ends all calls in progress; then
 * what lies before it is taken up, but for calls, whose answers nobody would see, and the Close in
 * its turn.
 *
 * Half-open connections: a client that was silent for the ping interval is sent a Ping, after two
 * intervals another, and is lost after three. While it is not read at all, the kernel's keep-alive
 * does the same.
 */

#include "frontd/shard/client/refusal.h"
#include "frontd/shard/net/incident.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/ws_compress.h"

enum {
    CLOSE_MS = 5000,  /* for the client's Close after ours */
    JITTER_PARTS = 8, /* a ping comes up to an eighth of the interval early */
};

static void on_control(struct client *client, const struct ws_result *result)
{
    struct duplex *duplex = client->duplex;
    if (result->opcode == WS_PING && !duplex->close_sent)
        duplex_send_control(client, WS_PONG, result->payload);
    if (result->opcode != WS_CLOSE)
        return;
    duplex_set_code(client, result->code);
    if (!duplex->close_sent)
        duplex_send_close(client, result->code, (struct span){0});
    client->last_request = true;
    client_end(client);
    request_abandon_all(client);
}

static struct ws_limits limits_of(const struct client *client)
{
    uint32_t limit = client->ctx->conf->limits.body;
    return (struct ws_limits){
        .message = limit, .frame = limit, .deflate = client->duplex->deflate != 0};
}

static void refuse_compressed(struct client *client, unsigned code)
{
    if (code == WS_CODE_NONE) {
        client_doom(client);
        return;
    }
    refusal_note(client, code == WS_CODE_TOO_BIG     ? REFUSED_TOO_LARGE
                         : code == WS_CODE_TRY_LATER ? REFUSED_OVERLOADED
                                                     : REFUSED_WEBSOCKET);
    duplex_fail(client, code);
}

static void take_message(struct client *client, const struct ws_result *result)
{
    struct ctx *ctx = client->ctx;
    const bool binary = result->opcode == WS_BINARY;
    if (!result->compressed) {
        duplex_message(client, result->payload, binary);
        return;
    }
    if (client->duplex->close_sent)
        return; /* nobody wants it, so that it need not be inflated */
    struct span payload;
    unsigned code = ws_take_compressed(client, result->payload, binary, &payload);
    if (code == 0)
        duplex_message(client, payload, binary);
    else
        refuse_compressed(client, code);
    ws_compression_trim(ctx->ws_compression);
}

static size_t take_ws(struct client *client, struct ws *ws, char *p, size_t n, char **ret_rest)
{
    const struct ws_limits limits = limits_of(client);
    char control[WS_CONTROL_MAX];
    while (n > 0 && client_takes(client)) {
        struct ws_result result = ws_feed(ws, p, n, &limits, control);
        if (result.event == WS_EVENT_MESSAGE) {
            take_message(client, &result);
            p += result.used;
            n -= result.used;
        } else if (result.event == WS_EVENT_ERROR) {
            incident_show(client->ctx, INCIDENT_FRAMES, (struct span){p, n});
            refusal_note(
                client, result.code == WS_CODE_TOO_BIG ? REFUSED_TOO_LARGE : REFUSED_WEBSOCKET);
            incident_hide(client->ctx);
            duplex_fail(client, result.code);
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

/* No answer to what was asked before the Close is wanted: what waits before it may be started. */
static void make_way_for_close(struct client *client)
{
    client->duplex->close_follows = true;
    request_abandon_all(client);
    if (client_may_start(client)) { /* else it goes on when what waits has been written */
        client->paused = true;
        client->yields = true; /* this comes again for each calls_per_connection of them */
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

static void heard(struct client *client)
{
    struct duplex *duplex = client->duplex;
    if (!duplex->close_sent)
        duplex->heard_at = ctx_now(client->ctx);
    duplex->pings = 0;
}

static size_t ahead(struct client *client, union codec_state *codec, char *p, size_t n)
{
    if (client->state != CLIENT_OPEN || client->last_request || client->held)
        return n;
    return look_ahead_ws(client, &codec->ws, p, n);
}

static size_t take(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    heard(client);
    n = take_ws(client, &codec->ws, p, n, ret_rest);
    return n == 0 || client_may_start(client) ? n : ahead(client, codec, *ret_rest, n);
}

/* A message may have begun of which no byte is left: frame heads are taken out as they are read. */
static bool midway(const union codec_state *codec, const struct client *client)
{
    return client->state == CLIENT_OPEN && !client->last_request &&
           (codec->ws.in_frame || codec->ws.opcode != 0);
}

static size_t gathered(const struct pending *pending)
{
    return pending->codec.ws.message;
}

static bool input_ended(struct client *client)
{
    (void)client;
    return false;
}

/* By how many ms a Ping comes early: those of many connections that came at the same moment do not
 * go out at the same moment. */
static uint64_t early(const struct client *client)
{
    const struct duplex *duplex = client->duplex;
    uint64_t mixed = client->conn.id * 0x9e3779b97f4a7c15ULL >> 32;
    return mixed % (duplex->route->ping / JITTER_PARTS + 1);
}

/* When a silent client is sent the next Ping, or is lost after the last, in ms. */
static uint64_t next_ping(const struct client *client)
{
    const struct duplex *duplex = client->duplex;
    uint64_t at = duplex->heard_at + duplex->route->ping * (duplex->pings + 1U);
    return duplex->pings == 0 ? at - early(client) : at;
}

/*
 * When the connection ends with the token of its handshake, in ms; UINT64_MAX: it does not. The
 * wall clock is looked at each time, since it may be set: a step forward is noticed with the next
 * message or Ping.
 */
static uint64_t token_due(const struct client *client)
{
    const struct duplex *duplex = client->duplex;
    const struct conf_jwt *jwt = duplex->route->jwt;
    if (LIKELY(duplex->claims == NULL || jwt == NULL || !jwt->expires_close) ||
        client->state != CLIENT_OPEN)
        return UINT64_MAX;
    return ctx_now(client->ctx) + claims_left(duplex->claims);
}

static uint64_t due(const struct client *client)
{
    const struct duplex *duplex = client->duplex;
    if (duplex->close_sent)
        return duplex->heard_at + CLOSE_MS;
    uint64_t at = token_due(client);
    if (client->pending != NULL && client_may_start(client))
        at = MIN(at, client_pending_due(client));
    if (!client_is_read(client))
        return at; /* a Pong would not be read */
    return MIN(at, next_ping(client));
}

static void expire(struct client *client)
{
    struct duplex *duplex = client->duplex;
    uint64_t now = ctx_now(client->ctx);
    if (duplex->close_sent) {
        if (client_waiting(client) == 0)
            client_leave(client); /* the client may not have read our Close yet */
        else
            client_doom(client);
        return;
    }
    if (UNLIKELY(token_due(client) <= now)) {
        refusal_note(client, CLOSED_TOKEN_ENDED);
        duplex_close(client, WS_CODE_POLICY, SPAN("its token has ended"));
        return;
    }
    if (duplex_message_expired(client))
        return;
    if (!client_is_read(client) || now < next_ping(client))
        return;
    if (duplex->pings >= DUPLEX_PINGS_MAX - 1) {
        refusal_note(client, CLOSED_SILENT);
        client_doom(client); /* lost: 1006 */
        return;
    }
    duplex->pings++;
    /* A Ping that goes out late, since this process was held up, may be answered as much later. */
    duplex->heard_at = MAX(duplex->heard_at, now - MIN(now, duplex->pings * duplex->route->ping));
    duplex_send_control(client, WS_PING, (struct span){0});
}

static unsigned codec_version(const union codec_state *codec)
{
    return ws_save_version(&codec->ws);
}

static void save_codec(const union codec_state *codec, struct pack *pack)
{
    ws_save(&codec->ws, pack);
}

static int restore_codec(
    struct span bytes, union codec_state *ret_codec, struct unpack *unpack, unsigned version)
{
    return ws_restore(&ret_codec->ws, unpack, version, bytes);
}

const struct session_ops websocket_session = {
    .ends_at_once = true,
    .take = take,
    .ahead = ahead,
    .midway = midway,
    .gathered = gathered,
    .input_ended = input_ended,
    .due = due,
    .expire = expire,
    .codec_version = codec_version,
    .save_codec = save_codec,
    .restore_codec = restore_codec,
    .size = sizeof(struct duplex),
    .resumed = duplex_resumed,
    .drain = duplex_drain,
    .reply = duplex_reply,
    .asked = duplex_asked,
    .gone = duplex_gone,
    .route = duplex_route,
    .headers = duplex_headers,
    .claims = duplex_claims,
    .subscriptions = duplex_subscriptions,
    .affinity = duplex_affinity,
    .canary = duplex_canary,
    .deliver = duplex_deliver,
    .yield = duplex_yield,
    .close = duplex_close,
    .set_code = duplex_set_code,
    .holds = duplex_holds,
    .save = duplex_save,
    .restore = duplex_restore,
    .forget = duplex_forget,
};
