/*
 * The sessions of messages on plain TCP: `frame`, each with its length before it, and `line`, one a
 * line. Half-open connections are found by the kernel's keep-alive, since these protocols have no
 * question that every client answers. A frame client may send an empty frame as a heartbeat, which
 * is echoed, ahead of what waits.
 */

#include <errno.h>

#include "common/log.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/request/conn_events.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"

static int open_client(struct client *client)
{
    const struct conf_route *route = &client_listener(client)->routes[0];
    if (duplex_begin(client, route, client->session, NULL) < 0)
        return -ENOMEM;
    if (!route->events)
        return 0;
    if (!route->connect_ask) {
        duplex_announce(client, NULL);
        return 0;
    }
    struct request *request = request_add(client, route);
    if (request == NULL)
        return -ENOMEM;
    request->class = METRIC_CLASS_CONNECT;
    account_begin(request);
    client_set_used(client); /* a worker is asked about it */
    duplex_ask(request, NULL);
    return 0;
}

static struct line_result feed_line(
    const struct client *client, size_t *scanned, const char *p, size_t n)
{
    uint32_t limit = client->ctx->conf->limits.body;
    if (client->session == SESSION_FRAME)
        return line_feed_frame(p, n, limit);
    return line_feed_line(p, n, limit, scanned);
}

/* Sends an error that belongs to no request. */
static void send_error(struct client *client, enum rpc_error error)
{
    struct buf text = {0};
    if (rpc_error_write(&text, error, (struct span){0}) == 0)
        duplex_send_text(client, (struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
}

static void refuse_too_big(struct client *client)
{
    refusal_note(client, REFUSED_TOO_LARGE);
    send_error(client, RPC_TOO_LARGE);
    duplex_fail(client, WS_CODE_TOO_BIG);
}

/* HTTP on a listener of lines: behind this line may be calls that a web page has put into the body
 * of a request. */
static void refuse_foreign(struct client *client)
{
    static struct log_limit limit;
    log_limited(&limit, ctx_now(client->ctx), LOG_INFO,
        "listener %s: a client speaks HTTP or TLS, its connection is closed",
        client_listener(client)->name);
    send_error(client, RPC_PARSE_ERROR);
    duplex_fail(client, WS_CODE_POLICY);
}

/* Takes what feed_line() has found. Returns whether more may follow. */
static bool take_line(struct client *client, const struct line_result *result)
{
    bool line = client->session == SESSION_LINE;
    if (result->event == LINE_TOO_BIG) {
        refuse_too_big(client);
        return false;
    }
    if (line && !client->duplex->route->raw && UNLIKELY(line_is_foreign(result->payload))) {
        refuse_foreign(client);
        return false;
    }
    if (result->event == LINE_MESSAGE || (line && client->duplex->route->raw))
        duplex_message(client, result->payload, false);
    else if (!line)
        duplex_send_text(client, (struct span){0}); /* a heartbeat is echoed */
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
        duplex_send_text(client, (struct span){0});
        if (!client_answers_ahead(client) || !client_has_space(client))
            return line_ahead_end(p, n, *looked, &hole);
    }
    return kept;
}

/* Lines have no such function: an empty line says nothing. */
static size_t ahead_frame(struct client *client, union codec_state *codec, char *p, size_t n)
{
    if (client->state != CLIENT_OPEN || client->last_request || client->held ||
        !client_has_space(client))
        return n;
    return look_ahead_frames(client, &codec->scanned, p, n);
}

static size_t take(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    n = take_lines(client, &codec->scanned, p, n, ret_rest);
    if (n == 0 || client->session != SESSION_FRAME || client_may_start(client))
        return n;
    return ahead_frame(client, codec, *ret_rest, n);
}

static size_t gathered(const struct pending *pending)
{
    return buf_len(&pending->bytes);
}

/*
 * The client's side has ended within a message. A line ends there, as if there were a line end; a
 * frame has been cut, which is answered with an error. So has a line over TLS without close_notify:
 * anybody on the way can end a connection so, and have half of what was meant carried out.
 */
static void end_message(struct client *client)
{
    struct pending *pending = client->pending;
    bool cut = client->transport != NULL && client->transport->truncated;
    if (client->session == SESSION_FRAME || cut) {
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
    if (client->pending != NULL && client_may_start(client))
        end_message(client);
    return true;
}

static uint64_t due(const struct client *client)
{
    return client->pending != NULL && client_may_start(client) ? client_pending_due(client)
                                                               : UINT64_MAX;
}

static void expire(struct client *client)
{
    duplex_message_expired(client);
}

/* Nothing is saved: a frame's head is in its bytes, and how far a line, or what is behind a
 * message, was looked at is found out again. */
static unsigned codec_version(const union codec_state *codec)
{
    (void)codec;
    return WS_SAVED;
}

static void save_codec(const union codec_state *codec, struct pack *pack)
{
    (void)codec;
    (void)pack;
}

static int restore_codec(
    struct span bytes, union codec_state *ret_codec, struct unpack *unpack, unsigned version)
{
    (void)bytes;
    (void)unpack;
    ret_codec->scanned = 0;
    return version == WS_SAVED ? 0 : -EBADMSG;
}

#define FRAMED_SESSION                                                                             \
    .open = open_client, .take = take, .gathered = gathered, .input_ended = input_ended,           \
    .due = due, .expire = expire, .codec_version = codec_version, .save_codec = save_codec,        \
    .restore_codec = restore_codec, .size = sizeof(struct duplex), .resumed = duplex_resumed,      \
    .drain = duplex_drain, .reply = duplex_reply, .asked = duplex_asked, .gone = duplex_gone,      \
    .route = duplex_route, .headers = duplex_headers, .claims = duplex_claims,                     \
    .subscriptions = duplex_subscriptions, .affinity = duplex_affinity, .canary = duplex_canary,   \
    .deliver = duplex_deliver, .yield = duplex_yield, .close = duplex_close,                       \
    .set_code = duplex_set_code, .holds = duplex_holds, .save = duplex_save,                       \
    .restore = duplex_restore, .forget = duplex_forget

const struct session_ops frame_session = {.ahead = ahead_frame, FRAMED_SESSION};
const struct session_ops line_session = {FRAMED_SESSION};
