/*
 * What workers push to a duplex connection, and what becomes of it where the client reads too
 * slowly: duplex_deliver() → push() → the message waits in client->queue, where it fits; else
 * make_room() closes the connection, or, with `slow: drop`, drops the oldest pushes that wait.
 */

#include "common/log.h"
#include "common/utf8.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/session/duplex.h"

enum {
    OUT_WAITING = 4096, /* bytes that may wait before a push where memory is out */
};

/* Counts pushes that are dropped. Where the connection goes on (`slow: drop`), the first is logged;
 * how many there were is logged when the connection ends. */
static void count_dropped(struct client *client, size_t n)
{
    struct duplex *duplex = client->duplex;
    if (n > 0 && duplex->dropped == 0 && duplex->route->slow_drop) {
        char peer[PEER_TEXT_SIZE];
        client_peer_text(client, peer);
        share_count(&client->ctx->count->slow[METRIC_SLOW_DROPS], 1);
        log_info("connection %llu (%s) reads too slowly: the oldest pushes for it are dropped",
            (unsigned long long)client->conn.id, peer);
    }
    duplex->dropped += (uint32_t)MIN(n, (size_t)(UINT32_MAX - duplex->dropped));
    share_count(client->ctx->count->dropped, n);
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

/* Makes room for a message with which more than `limit` would wait. Returns whether there is. */
static bool make_room(struct client *client, const struct message *message, size_t limit)
{
    size_t room = limit > message->len ? limit - message->len : 0;
    if (!client->duplex->route->slow_drop) {
        drop_pushes(client, 0);
        count_dropped(client, 1);
        share_count(&client->ctx->count->slow[METRIC_SLOW_CLOSED], 1);
        refusal_note(client, CLOSED_SLOW_PUSH);
        duplex_close(client, WS_CODE_TRY_LATER, SPAN("too slow"));
        return false;
    }
    /* A message that never fits drops no others; nor does one fit where answers alone wait. */
    size_t before;
    do {
        before = client_waiting(client);
        if (message->len <= limit)
            drop_pushes(client, room + client_large(client, false));
    } while (client_waiting(client) < before); /* once more where client_large() was dropped */
    if (message->len <= limit && before <= room + client_large(client, false))
        return true;
    count_dropped(client, 1);
    return false;
}

/*
 * Whether the message may wait. A client that has taken all that was sent before gets a message of
 * any size up to limits.body, and what follows is not held against it: see client_large().
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
    if (UNLIKELY(ctx_memory(client->ctx) == MEMORY_OUT)) /* no client may fall further behind */
        limit = MIN(limit, message->len + (size_t)OUT_WAITING);
    /* Much in one turn does not make a client slow: what the kernel takes does not wait. */
    if (client_waiting(client) + message->len > limit && !client_write(client))
        return;
    if (!fits(client, message, limit) && !make_room(client, message, limit))
        return;
    if (client_add_message(client, message) < 0)
        client_doom(client);
    else
        share_count(client->ctx->count->deliveries, 1);
}

/* Where the message for connections with the client's window is; it is made where it is not there.
 */
static struct message **deflated(struct client *client, struct shared *shared)
{
    struct message **message = &shared->deflated[client->duplex->deflate - WS_DEFLATE_BITS_MIN];
    if (*message == NULL)
        *message = duplex_encode_for(client, shared->payload, shared->binary, true);
    return message;
}

/* Workers can cause it with every message. */
static struct log_limit not_utf8;

void duplex_deliver(struct client *client, struct shared *shared)
{
    struct ctx *ctx = client->ctx;
    enum session_kind kind = client->session;
    struct message **message = &shared->encoded[kind];
    if (shared->refused && kind == SESSION_WEBSOCKET)
        return;
    if (!shared->checked && kind == SESSION_WEBSOCKET)
        shared->checked = shared->binary || utf8_valid(shared->payload.p, shared->payload.n);
    if (!shared->checked && kind == SESSION_WEBSOCKET) {
        shared->refused = true;
        log_limited(&not_utf8, ctx_now(ctx), LOG_WARNING,
            "a worker pushes text that is not UTF-8: it is not sent to WebSockets");
        return;
    }
    if (UNLIKELY(client->duplex->deflate != 0))
        message = deflated(client, shared);
    else if (*message == NULL)
        *message = duplex_encode(kind, shared->payload, shared->binary, true);
    if (*message == NULL)
        return;
    bool written = !client->touched && !client_blocked(client);
    ctx->work += (written ? WORK_WRITE : 1) + ((*message)->len >> WORK_SHIFT);
    push(client, *message);
}
