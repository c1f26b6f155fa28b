/*
 * The life of a client: client_open() → client_ready() reads and starts requests (client_in.c) →
 * answers gather in `out` and `queue` (client_out.c) → client_flush() writes them once a turn,
 * decides what is waited for, and arms the timer → the connection ends (client_end.c), or goes to
 * another process (client_freeze.c). A client is freed in one place, destroy_client(), at the end
 * of a turn.
 *
 * While the shard gives its connections away (ctx->leaving), a client that can move at the end of a
 * flush is put into ctx->idle; what it has sent on is left for the other process.
 *
 * One timer serves all timeouts: it is armed for the earliest known time and looks, when it fires,
 * whether the time has moved; so an active client does not touch the wheel.
 */

#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/shard/client/client_internal.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/tls/tls_transport.h"

/*
 * A client that is not doomed may always be closed: it was taken by another process, or could not
 * be restored.
 */
const uint8_t client_moves[CLIENT_STATES] = {
    [CLIENT_OPEN] = 1 << CLIENT_HALF_CLOSED | 1 << CLIENT_ENDING | 1 << CLIENT_DOOMED |
                    1 << CLIENT_CLOSED,
    [CLIENT_HALF_CLOSED] = 1 << CLIENT_ENDING | 1 << CLIENT_DOOMED | 1 << CLIENT_CLOSED,
    [CLIENT_ENDING] = 1 << CLIENT_LINGERING | 1 << CLIENT_DOOMED | 1 << CLIENT_CLOSED,
    [CLIENT_LINGERING] = 1 << CLIENT_DOOMED | 1 << CLIENT_CLOSED,
    [CLIENT_DOOMED] = 1 << CLIENT_CLOSED,
};

void client_touch(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (client->touched)
        return;
    client->touched = true;
    client->dirty = NULL;
    *ctx->dirty_tail = client;
    ctx->dirty_tail = &client->dirty;
}

void client_doom(struct client *client)
{
    if (client->state < CLIENT_DOOMED)
        client_set_state(client, CLIENT_DOOMED);
    client_touch(client);
}

int64_t client_age(const struct client *client)
{
    const uint32_t turn = (1U << CLIENT_OPENED_BITS) - 1; /* of the clock, in seconds */
    uint32_t now = client_opened(ctx_now(client->ctx));
    uint32_t opened = client->opened;
    return opened == 0 ? -1 : (int64_t)((now + turn - opened) % turn);
}

struct peer client_peer(const struct client *client)
{
    struct peer peer = {.port = client->peer_port, .family = client->peer_family};
    memcpy(peer.bytes, client->peer, sizeof(peer.bytes));
    return peer;
}

void client_peer_text(const struct client *client, char out[static PEER_TEXT_SIZE])
{
    struct peer peer = client_peer(client);
    peer_text(&peer, out);
}

static void store_peer(struct client *client, const struct peer *peer)
{
    memcpy(client->peer, peer->bytes, sizeof(client->peer));
    client->peer_port = peer->port;
    client->peer_family = peer->family & 15;
}

bool client_set_peer(struct client *client, const struct peer *peer)
{
    struct ctx *ctx = client->ctx;
    const struct conf_listener *listener = client_listener(client);
    uint64_t per_peer = ctx->conf->limits.connections_per_peer;
    bool proxied = listener->forwarded != CONF_FORWARDED_NONE && conf_trusts(listener, peer);
    struct sockaddr_storage address;
    CHECK(client->proxied);
    peer_sockaddr(peer, &address);
    if (!proxied && per_peer > 0 &&
        !share_peer_add(ctx->share, ctx->seat, (struct sockaddr *)&address, per_peer))
        return false;
    store_peer(client, peer);
    client->proxied = proxied;
    return true;
}

/* Whether the client is counted by its peer. */
static bool has_peer_count(const struct client *client)
{
    return client->ctx->conf->limits.connections_per_peer > 0 && !client->proxied;
}

void client_count(struct client *client)
{
    struct ctx *ctx = client->ctx;
    CHECK(share_connection_add(ctx->share, ctx->seat, UINT64_MAX));
    if (has_peer_count(client)) {
        struct sockaddr_storage address;
        struct peer peer = client_peer(client);
        peer_sockaddr(&peer, &address);
        CHECK(share_peer_add(ctx->share, ctx->seat, (struct sockaddr *)&address, UINT64_MAX));
    }
    ctx->open += client->fd >= 0;
}

static void uncount(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (has_peer_count(client)) {
        struct sockaddr_storage address;
        struct peer peer = client_peer(client);
        peer_sockaddr(&peer, &address);
        share_peer_remove(ctx->share, ctx->seat, (struct sockaddr *)&address);
    }
    share_connection_remove(ctx->share, ctx->seat);
    ctx->open -= client->fd >= 0;
}

/* One that speaks something now, or (n == -1) does not any more. */
static void count_protocol(const struct client *client, unsigned protocol, int n)
{
    if (protocol == METRIC_PROTOCOL_FIRST || client->arriving || client->fd < 0)
        return;
    _Atomic uint64_t *speaking = &client_counts(client)->speaking[protocol];
    share_set(speaking, atomic_load_explicit(speaking, memory_order_relaxed) + (uint64_t)n);
}

void client_set_session(struct client *client, enum session_kind session)
{
    unsigned before = client_protocol(client);
    client->session = (uint8_t)session;
    unsigned after = client_protocol(client);
    if (before != after) {
        count_protocol(client, before, -1);
        count_protocol(client, after, 1);
    }
}

void client_count_start(struct client *client)
{
    count_protocol(client, client_protocol(client), 1);
}

void client_strip(struct client *client)
{
    client_set_state(client, CLIENT_CLOSED);
    client->touched = true; /* for good: nothing below queues it again */
    client->ctx->requests_ops->abandon(client);
    client_session(client)->gone(client);
    client_free_pending(client);
    buf_deinit(&client->out);
    message_queue_free(&client->queue);
    client_set_starved(client, false);
    wheel_disarm(&client->timer);
    list_remove(&client->node);
    client_set_events(client, 0);
    if (UNLIKELY(client->transport != NULL))
        client->transport->ops->free(client->transport);
    client->transport = NULL;
}

void client_dispose(struct client *client)
{
    CHECK(!client->ctx->poller.busy);
    /* One that is carried is no connection: it is counted by its requests alone. */
    bool ends = !client->moving && !client->arriving && client->fd >= 0;
    unsigned as = client_protocol(client) * METRIC_REASON_COUNT + client->why;
    client_strip(client);
    uncount(client);
    client_set_session(client, SESSION_HTTP1); /* it is not counted by what it spoke any more */
    if (ends)
        share_count(&client_counts(client)->closed[as], 1);
    slab_put(&client->ctx->clients, client);
}

static void destroy_client(struct client *client)
{
    int fd = client->fd;
    CHECK(client->state == CLIENT_DOOMED);
    if (UNLIKELY(client->transport != NULL) && client_waiting(client) == 0 && !client->aborts)
        client->transport->ops->shut(client->transport, fd); /* as far as it goes */
    client_set_end(client);
    client_dispose(client);
    if (LIKELY(fd >= 0))
        close(fd);
}

void client_become_used(struct client *client)
{
    struct ctx *ctx = client->ctx;
    client->used = true;
    if (ctx->used == NULL)
        return; /* it may be in another list by now */
    list_remove(&client->node);
    list_append(ctx->used, &client->node);
}

void client_set_unused(struct client *client)
{
    struct ctx *ctx = client->ctx;
    client->used = false;
    client->active_at = ctx_now(ctx);
    if (ctx->used == NULL)
        return; /* as in client_become_used() */
    list_remove(&client->node);
    list_append(&ctx->unused, &client->node);
}

/* The close code that frontd.disconnect tells: why the connection ends. */
static void set_code(struct client *client, unsigned code)
{
    if (client_is_duplex(client))
        client_session(client)->set_code(client, code);
}

bool client_evict(struct client *client)
{
    bool queued = client->touched;
    set_code(client, WS_CODE_TRY_LATER);
    client_because(client, METRIC_REASON_ROOM);
    if (client->state < CLIENT_DOOMED)
        client_set_state(client, CLIENT_DOOMED);
    if (!queued)
        destroy_client(client);
    return !queued;
}

/* When a client from which nothing has come has had its time, in ms; UINT64_MAX: never. */
static uint64_t silent_at(const struct client *client)
{
    if (client->used || client->state != CLIENT_OPEN || client->session == SESSION_PROXY)
        return UINT64_MAX;
    return client->active_at + client->ctx->conf->limits.first_byte_timeout;
}

/* When the transport is to be ready, in ms: nothing moves active_at before. */
static uint64_t open_at(const struct client *client)
{
    return client->active_at + client_listener(client)->tls->handshake_timeout;
}

/*
 * When the rest of something has to be there whose beginning has come, in ms; UINT64_MAX: never.
 * (What has come of a request or message has timeouts of its own.)
 */
static uint64_t rest_at(const struct client *client)
{
    const struct transport *transport = client->transport;
    if (LIKELY(transport == NULL) || !client->reads || transport->ops->waits_since == NULL)
        return UINT64_MAX;
    uint64_t since = transport->ops->waits_since(transport);
    return since == UINT64_MAX ? since : since + client->ctx->conf->limits.body_timeout;
}

/* The earliest of the client's timeouts, in ms, as things stand; UINT64_MAX: there is none. */
static uint64_t due_at(const struct client *client)
{
    switch (client->state) {
    case CLIENT_OPEN:
        if (client_is_opening(client))
            return open_at(client);
        if (client->shut)
            return client->active_at + CLIENT_HALF_CLOSED_MS;
        break;
    case CLIENT_HALF_CLOSED: return client->active_at + CLIENT_HALF_CLOSED_MS;
    case CLIENT_LINGERING: return client->active_at + CLIENT_LINGER_MS;
    default: break;
    }
    uint64_t stalled_at = client_stalled_at(client);
    uint64_t guess_at = UINT64_MAX; /* when guesses become smaller, so that more may be started */
    if (UNLIKELY(client->guessed) && (client->paused || client->backlog))
        guess_at = ctx_now(client->ctx) + EXPECT_STEP_MS;
    if (stalled_at != UINT64_MAX && !client_is_duplex(client))
        return MIN(stalled_at, guess_at);
    uint64_t own_at = MIN(MIN(stalled_at, guess_at), MIN(silent_at(client), rest_at(client)));
    return MIN(own_at, client_session(client)->due(client));
}

void client_arm(struct client *client)
{
    uint64_t at = due_at(client);
    if (at == UINT64_MAX)
        return;
    if (!wheel_armed(&client->timer) || at < client->timer.at)
        wheel_arm(&client->ctx->wheel, &client->timer, at);
}

/* The client is flushed at the end of the next turn. */
static void queue_for_later(struct client *client)
{
    struct ctx *ctx = client->ctx;
    client->touched = client->later = true;
    client->dirty = NULL;
    *ctx->later_tail = client;
    ctx->later_tail = &client->dirty;
}

static void go_on_held(struct client *client)
{
    const struct session_ops *session = client_session(client);
    if (session->go_on != NULL)
        session->go_on(client);
}

void client_flush(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (UNLIKELY(client->streams))
        ctx->parts_ops->flush(client);
    client->touched = false; /* what touches it from here on has it flushed once more */
    if (client->later)
        client->later = client->yields = false;
    bool more = UNLIKELY(client->session == SESSION_HTTP2) && client_session(client)->turn(client);
    if (!client_blocked(client))
        client_write(client);
    if (UNLIKELY(client->streams))
        ctx->parts_ops->credit(client);
    if (UNLIKELY(more) && client_waiting(client) == 0)
        client->yields = true; /* else it goes on when the socket has room again */
    if (client->state == CLIENT_ENDING && client_waiting(client) == 0 &&
        list_empty(&client->requests))
        client_linger(client);
    bool leaves = UNLIKELY(ctx->leaving) && client_can_move(client);
    if (UNLIKELY(client->backlog) && client->state < CLIENT_DOOMED)
        ctx->requests_ops->go_on(client);
    if (UNLIKELY(client->held) && client->state < CLIENT_ENDING)
        go_on_held(client);
    if (UNLIKELY(client->transport != NULL) && !leaves) {
        client_read_kept(client);
        if (client->transport->worn)
            client_drain(client);
    }
    if (client->paused && !client->yields && !leaves)
        client_resume(client);
    if (client->state == CLIENT_HALF_CLOSED && list_empty(&client->requests))
        client_end(client);
    if (client->state == CLIENT_DOOMED) {
        if (!client->touched) /* else it is flushed once more in this turn */
            destroy_client(client);
        return;
    }
    client_choose_events(client);
    if (UNLIKELY(client->transport != NULL) && client->reads)
        client->yields |= client->transport->ops->has_bytes(client->transport);
    client_arm(client);
    if (UNLIKELY(ctx->leaving) && client_can_move(client)) {
        client->yields = false;
        list_remove(&client->node);
        list_append(&ctx->idle, &client->node);
    } else if (UNLIKELY(client->yields) && !client->touched) {
        queue_for_later(client);
    }
    struct client *carrier = UNLIKELY(client->fd < 0 && ctx->leaving) ? client_carrier(client)
                                                                      : NULL;
    if (UNLIKELY(carrier != NULL))
        client_touch(carrier); /* it may be able to move now */
}

static void give_up_client(struct client *client)
{
    if (client_stalled_at(client) <= ctx_now(client->ctx))
        refusal_note(client, CLOSED_SLOW_READER);
    client_doom(client);
}

void client_timeout(struct wheel_timer *timer)
{
    struct client *client = container_of(timer, struct client, timer);
    uint64_t now = ctx_now(client->ctx);
    if (UNLIKELY(client->guessed)) {
        client->ctx->requests_ops->guess_again(client);
        client_touch(client); /* which starts what there is room for now */
    }
    size_t waiting = client_waiting(client);
    if (!client_write(client)) /* the socket may have room for what came in this turn */
        return;
    if (client_waiting(client) != waiting)
        client_touch(client); /* the last of it may be out */
    bool ours = client->state != CLIENT_OPEN || client->shut || client_stalled_at(client) <= now ||
                silent_at(client) <= now || rest_at(client) <= now;
    if (due_at(client) > now) {
        client_arm(client);
        return;
    }
    if (client_is_opening(client) && client->state == CLIENT_OPEN) {
        refusal_note(client, CLOSED_HANDSHAKE);
        client_doom(client);
        return;
    }
    if (silent_at(client) <= now || rest_at(client) <= now) {
        set_code(client, WS_CODE_POLICY);
        refusal_note(client, silent_at(client) <= now ? CLOSED_NO_BYTE : CLOSED_SLOW_SENDER);
    }
    bool ended = client->state == CLIENT_HALF_CLOSED || client->shut;
    if (client->state == CLIENT_LINGERING && client_reads_the_rest(client))
        ; /* its time begins anew */
    else if (client->state < CLIENT_ENDING && ended && client_keeps_output(client))
        client_give_up_calls(client);
    else if (ours)
        give_up_client(client);
    else
        client_session(client)->expire(client);
    client_touch(client); /* the timer is armed again when the turn ends */
}

static enum session_kind session_of(const struct conf_listener *listener, struct span alpn)
{
    switch (listener->protocol) {
    case CONF_PROTOCOL_FRAME: return SESSION_FRAME;
    case CONF_PROTOCOL_LINE: return SESSION_LINE;
    default: break;
    }
    if (alpn.n == 2 && memcmp(alpn.p, "h2", 2) == 0)
        return SESSION_HTTP2;
    return listener->h2c ? SESSION_FIRST : SESSION_HTTP1;
}

void client_begin_session(struct client *client, struct span alpn)
{
    client_set_session(client, session_of(client_listener(client), alpn));
    const struct session_ops *session = client_session(client);
    if (session->open != NULL && session->open(client) < 0)
        client_doom(client); /* it is closed at the end of the turn */
}

void client_begin(struct client *client)
{
    if (LIKELY(client_listener(client)->tls == NULL)) {
        client_begin_session(client, (struct span){0});
        return;
    }
    client->session = SESSION_HTTP1; /* until the handshake has ended */
    client->transport = tls_transport_new(client->ctx->tls, client->listener, client);
    if (client->transport == NULL)
        client_doom(client);
}

/* What a client has in common, however it comes. NULL where there is no memory. */
static struct client *make_client(
    struct ctx *ctx, const struct conf_listener *listener, int fd, const struct peer *peer)
{
    struct client *client = slab_get(&ctx->clients);
    if (client == NULL)
        return NULL;
    client->ctx = ctx;
    client->listener = (uint32_t)(listener - ctx->conf->listeners);
    client->fd = fd;
    client->conn.id = ids_next(&ctx->conn_ids);
    client->active_at = ctx_now(ctx);
    client->opened = client_opened(ctx_now(ctx));
    store_peer(client, peer);
    list_init(&client->requests);
    list_init(&client->node);
    wheel_timer_init(&client->timer, TIMER_CLIENT);
    if (fd >= 0)
        share_count(client_counts(client)->accepted, 1);
    return client;
}

unsigned client_open_carried(
    struct client *carrier, const struct peer *told, struct client **ret_client)
{
    struct ctx *ctx = carrier->ctx;
    const struct conf_limits *limits = &ctx->conf->limits;
    const struct conf_listener *listener = client_listener(carrier);
    struct sockaddr_storage address;
    struct peer peer = told == NULL ? client_peer(carrier) : *told;
    bool proxied = told == NULL ? carrier->proxied : conf_trusts(listener, told);
    bool counted = !proxied && limits->connections_per_peer > 0;
    if (!share_connection_add(ctx->share, ctx->seat, limits->connections))
        return 503;
    peer_sockaddr(&peer, &address);
    if (counted && !share_peer_add(ctx->share, ctx->seat, (struct sockaddr *)&address,
                       limits->connections_per_peer)) {
        share_connection_remove(ctx->share, ctx->seat);
        return 429;
    }
    struct client *client = make_client(ctx, listener, -1, &peer);
    if (client == NULL) {
        if (counted)
            share_peer_remove(ctx->share, ctx->seat, (struct sockaddr *)&address);
        share_connection_remove(ctx->share, ctx->seat);
        return 503;
    }
    client->proxied = proxied;
    client->used = true;
    list_append(&carrier->node, &client->node); /* the list that the carrier is in */
    client_touch(client);
    *ret_client = client;
    return 0;
}

int client_open(struct ctx *ctx, const struct conf_listener *listener, int fd,
    const struct peer *peer, bool proxied, struct list *all)
{
    struct client *client = make_client(ctx, listener, fd, peer);
    if (client == NULL) {
        close(fd);
        return -ENOMEM;
    }
    client->proxied = proxied;
    list_append(ctx->used == NULL ? all : &ctx->unused, &client->node);
    ctx->open++;
    if (UNLIKELY(listener->proxy_protocol))
        client->session = SESSION_PROXY;
    else
        client_begin(client);
    if (client->state == CLIENT_DOOMED)
        return 0;
    client_choose_events(client);
    client_arm(client);
    return 0;
}

/* Whether nothing of the client by itself is in the way. */
static bool is_at_rest(const struct client *client)
{
    return client->state < CLIENT_DOOMED && list_empty(&client->requests) && !client->held &&
           !client->touched && !client->kept;
}

static bool carried_is_at_rest(struct client *carried, void *arg)
{
    (void)arg;
    return is_at_rest(carried);
}

bool client_can_move(const struct client *client)
{
    return client->fd >= 0 && is_at_rest(client) &&
           (client->transport == NULL || client->transport->ops->can_move(client->transport)) &&
           client_each_carried(client, carried_is_at_rest, NULL);
}

void client_drain(struct client *client)
{
    if (client->ctx->draining || client->ctx->leaving)
        client_because(client, METRIC_REASON_LEAVING);
    if (client->moving || client->arriving)
        client->drain_later = true;
    else if (client_is_opening(client))
        client_doom(client); /* it has asked for nothing */
    else if (client->state == CLIENT_OPEN && !client->last_request)
        client_session(client)->drain(client);
}

struct client *client_find(struct ctx *ctx, uint64_t conn)
{
    struct idmap_node *node = idmap_find(&ctx->conns, conn);
    struct client *client = node == NULL ? NULL : container_of(node, struct client, conn);
    return client == NULL || client->moving ? NULL : client;
}
