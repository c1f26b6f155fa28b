/*
 * The state of a client is a row of sections in the order of their tags, each written and read by
 * the module that has that state; a section that would be empty is left out. A section that is
 * written in another way gets another version. A process that does not know a tag or a version
 * refuses the state: the connection then stays with the process that has it. Times are of
 * CLOCK_MONOTONIC, which all processes share.
 */

#include <errno.h>

#include "common/alloc.h"
#include "frontd/codec/proxy_protocol.h"
#include "frontd/shard/client/affinity.h"
#include "frontd/shard/session/duplex.h"

/*
 * A new member of these structs is saved and restored too, or it is said here why it need not be;
 * then the number changes.
 *
 * What belongs to requests in progress is 0 in one that moves: held_back, claimed, guessed,
 * backlog. What is waited for (events, reads, blocked) is decided anew. Whether it is starved (and
 * fed) is up to the memory of the process that it is in; whether it is heavy follows from what
 * waits, and how long it has been so slow is in active_at. How fast one that lingers has read so
 * far (unsent, late) is not known in the new process: it is looked at anew. Why one ends (why) is
 * for the metrics alone: one that is ending already is done there.
 */
#if __SIZEOF_POINTER__ == 8
_Static_assert(sizeof(struct client) == 192, "saved by save_client()");
_Static_assert(sizeof(struct pending) == 88, "saved by save_pending()");
_Static_assert(sizeof(struct duplex) == 56, "saved by duplex_save()");
_Static_assert(sizeof(struct affinity) == 16, "saved by affinity_save()");
_Static_assert(sizeof(struct http1) == 32 && sizeof(struct ws) == 28, "saved by the codecs");
_Static_assert(sizeof(struct message_queue) == 32, "saved by message_queue_save()");
#endif

enum section {
    SECTION_CLIENT = 1,
    SECTION_SESSION, /* not of HTTP/1; its version says which session it is */
    SECTION_TOPICS,
    SECTION_OUT,
    SECTION_QUEUE,
    SECTION_PENDING,
    SECTION_UNUSED,    /* empty: nothing has come from it since active_at, when it was accepted */
    SECTION_TRANSPORT, /* not of a plain connection */
    SECTION_PROXIED,   /* its peer is a proxy; what has come of the PROXY header that it awaits */
    SECTION_DEFLATE,   /* its messages may be compressed: duplex_save_deflate() */
    SECTION_CLAIMS,    /* a token was asked for: duplex_save_claims() */
    SECTION_AFFINITY,  /* it is bound to a worker, or has a state: affinity_save() */
    SECTION_CANARY,    /* empty: it is one of its route's canary */
    SECTIONS_END,
};

/*
 * The version that this program writes, and the only one so far; but for what is pending, which has
 * the second one where the first has no place for it: see ws_save_version().
 */
enum { VERSION = 1, PENDING_VERSION_MAX = WS_SAVED_COMPRESSED };

/* Versions of SECTION_SESSION. */
enum { SAVED_DUPLEX = 1, SAVED_FIRST = 3, SAVED_HTTP2 = 4 };

static void save_client(const struct client *client, struct pack *pack)
{
    const struct conf_listener *listener = client_listener(client);
    size_t begun = pack_begin(pack, SECTION_CLIENT, VERSION);
    pack_text(pack, listener->name);
    pack_u8(pack, (uint8_t)listener->protocol);
    pack_u64(pack, client->conn.id);
    /* A program that does not know `opened` takes this for a time that is later than now, and
     * counts it as now. */
    pack_u64(pack, client->active_at | (uint64_t)client->opened << CLIENT_ACTIVE_BITS);
    pack_u8(pack, client->peer_family);
    pack_raw(pack, client->peer, sizeof(client->peer));
    pack_u16(pack, client->peer_port);
    pack_u8(pack, client->state);
    pack_u8(pack, client->last_request);
    pack_u8(pack, client->paused);
    pack_u8(pack, client->shut);
    pack_u8(pack, client->unread);
    pack_end(pack, begun);
}

static void save_pending(const struct client *client, struct pack *pack)
{
    const struct pending *pending = client->pending;
    const struct session_ops *session = client_session(client);
    unsigned version = session->codec_version == NULL ? VERSION
                                                      : session->codec_version(&pending->codec);
    size_t begun = pack_begin(pack, SECTION_PENDING, (uint8_t)version);
    pack_u64(pack, pending->started);
    pack_u64(pack, pending->heard);
    pack_u64(pack, pending->window);
    pack_u32(pack, pending->window_bytes);
    pack_u8(pack, pending->continue_owed);
    pack_bytes(pack, (struct span){buf_data(&pending->bytes), buf_len(&pending->bytes)});
    if (session->save_codec != NULL)
        session->save_codec(&pending->codec, pack);
    pack_end(pack, begun);
}

static uint8_t session_version(const struct client *client)
{
    switch (client->session) {
    case SESSION_HTTP2: return SAVED_HTTP2;
    case SESSION_FIRST: return SAVED_FIRST;
    default: return SAVED_DUPLEX;
    }
}

static void save_session(const struct client *client, struct pack *pack)
{
    size_t begun = pack_begin(pack, SECTION_SESSION, session_version(client));
    client_session(client)->save(client, pack);
    pack_end(pack, begun);
    if (!client_is_duplex(client) || client->duplex->subscriptions == NULL)
        return;
    begun = pack_begin(pack, SECTION_TOPICS, VERSION);
    topics_save(client->duplex->subscriptions, pack);
    pack_end(pack, begun);
}

static void save_waiting(const struct client *client, struct pack *pack)
{
    if (buf_len(&client->out) > 0) {
        size_t begun = pack_begin(pack, SECTION_OUT, VERSION);
        pack_raw(pack, buf_data(&client->out), buf_len(&client->out));
        pack_end(pack, begun);
    }
    if (client->queue != NULL) {
        size_t begun = pack_begin(pack, SECTION_QUEUE, VERSION);
        message_queue_save(client->queue, pack);
        pack_end(pack, begun);
    }
}

static void save_transport(const struct transport *transport, struct pack *pack)
{
    size_t begun = pack_begin(pack, SECTION_TRANSPORT, VERSION);
    transport->ops->save(transport, pack);
    pack_end(pack, begun);
}

static bool awaits_header(const struct client *client)
{
    return client->session == SESSION_PROXY;
}

static void save_proxied(const struct client *client, struct pack *pack)
{
    bool awaits = awaits_header(client);
    struct span bytes = {0};
    if (awaits && client->pending != NULL)
        bytes = (struct span){buf_data(&client->pending->bytes), buf_len(&client->pending->bytes)};
    size_t begun = pack_begin(pack, SECTION_PROXIED, VERSION);
    pack_u8(pack, awaits);
    pack_bytes(pack, bytes);
    pack_end(pack, begun);
}

static void save_deflate(const struct client *client, struct pack *pack)
{
    size_t begun = pack_begin(pack, SECTION_DEFLATE, VERSION);
    duplex_save_deflate(client, pack);
    pack_end(pack, begun);
}

static void save_claims(const struct client *client, struct pack *pack)
{
    size_t begun = pack_begin(pack, SECTION_CLAIMS, VERSION);
    duplex_save_claims(client, pack);
    pack_end(pack, begun);
}

static void save_affinity(const struct client *client, struct pack *pack)
{
    size_t begun = pack_begin(pack, SECTION_AFFINITY, VERSION);
    affinity_save(client->duplex->affinity, client->ctx->conf, pack);
    pack_end(pack, begun);
}

static bool add_size(struct client *carried, void *arg)
{
    *(size_t *)arg += client_state_size(carried);
    return true;
}

size_t client_state_size(const struct client *client)
{
    enum { BASE = 256, PER_MESSAGE = 5 };
    size_t n = BASE + buf_len(&client->out);
    if (client->queue != NULL)
        n += client->queue->bytes + (size_t)client->queue->count * PER_MESSAGE;
    client_each_carried(client, add_size, &n);
    return n + (client->pending == NULL ? 0 : buf_len(&client->pending->bytes));
}

int client_save(const struct client *client, struct buf *out)
{
    struct pack pack = {.out = out};
    size_t before = buf_len(out);
    save_client(client, &pack);
    if (client->session != SESSION_HTTP1 && !awaits_header(client))
        save_session(client, &pack);
    save_waiting(client, &pack);
    if (client->pending != NULL && !awaits_header(client))
        save_pending(client, &pack);
    if (!client->used && client->state == CLIENT_OPEN)
        pack_end(&pack, pack_begin(&pack, SECTION_UNUSED, VERSION));
    if (client->transport != NULL && client->fd >= 0)
        save_transport(client->transport, &pack);
    if (client->proxied)
        save_proxied(client, &pack);
    if (client_is_duplex(client) && client->duplex->deflate != 0)
        save_deflate(client, &pack);
    if (client_is_duplex(client) && client->duplex->claims != NULL)
        save_claims(client, &pack);
    if (client_is_duplex(client) && client->duplex->affinity != NULL)
        save_affinity(client, &pack);
    if (client_is_duplex(client) && client->duplex->canary)
        pack_end(&pack, pack_begin(&pack, SECTION_CANARY, VERSION));
    if (!pack.failed)
        return 0;
    buf_truncate(out, before);
    return -ENOMEM;
}

static const struct conf_listener *find_listener(const struct conf *conf, struct span name)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        if (unpack_text_is(name, conf->listeners[i].name))
            return &conf->listeners[i];
    }
    return NULL;
}

/* A new client is open: it takes the moves that the saved one has taken. */
static void restore_state(struct client *client, enum client_state state)
{
    if (state == CLIENT_LINGERING)
        client_set_state(client, CLIENT_ENDING);
    if (state != CLIENT_OPEN)
        client_set_state(client, state);
}

static int restore_client(struct client *client, struct unpack *unpack)
{
    struct ctx *ctx = client->ctx;
    struct span name = unpack_text(unpack);
    uint8_t protocol = unpack_u8(unpack);
    client->conn.id = unpack_u64(unpack);
    uint64_t times = unpack_u64(unpack);
    client->active_at = MIN(times & (((uint64_t)1 << CLIENT_ACTIVE_BITS) - 1), ctx_now(ctx));
    client->opened = times >> CLIENT_ACTIVE_BITS;
    client->peer_family = unpack_u8(unpack);
    unpack_raw(unpack, client->peer, sizeof(client->peer));
    client->peer_port = unpack_u16(unpack);
    uint8_t state = unpack_u8(unpack);
    client->last_request = unpack_flag(unpack);
    client->paused = unpack_flag(unpack);
    client->shut = unpack_flag(unpack);
    client->unread = unpack_flag(unpack);
    uint8_t family = client->peer_family;
    if (unpack_end(unpack) < 0 || client->conn.id == 0 || state >= CLIENT_DOOMED ||
        idmap_find(&ctx->conns, client->conn.id) != NULL ||
        (family != AF_INET && family != AF_INET6 && family != AF_UNIX))
        return -EBADMSG;
    const struct conf_listener *listener = find_listener(ctx->conf, name);
    if (listener == NULL || listener->protocol != protocol)
        return -ENOTSUP;
    client->listener = (uint32_t)(listener - ctx->conf->listeners);
    restore_state(client, state);
    client->why = state < CLIENT_ENDING ? METRIC_REASON_CLIENT : METRIC_REASON_DONE;
    return 0;
}

static int restore_pending(struct client *client, struct unpack *unpack, unsigned version)
{
    uint64_t now = ctx_now(client->ctx);
    struct pending *pending = mem_zalloc(sizeof(*pending));
    if (pending == NULL)
        return -ENOMEM;
    client->pending = pending; /* freed with the client */
    pending->started = unpack_time(unpack, now);
    pending->heard = unpack_time(unpack, now);
    pending->window = unpack_time(unpack, now);
    pending->window_bytes = unpack_u32(unpack);
    pending->continue_owed = unpack_flag(unpack);
    struct span bytes = unpack_bytes(unpack);
    const struct session_ops *session = client_session(client);
    int r = version == VERSION ? 0 : -EBADMSG;
    if (session->restore_codec != NULL)
        r = session->restore_codec(bytes, &pending->codec, unpack, version);
    if (r == 0)
        r = unpack_end(unpack);
    return r == 0 ? buf_append(&pending->bytes, bytes.p, bytes.n) : r;
}

static int restore_transport(struct client *client, struct unpack *unpack)
{
    const struct transport_ops *ops = client->ctx->transport;
    if (ops == NULL)
        return -ENOTSUP;
    if (client->fd < 0)
        return -EBADMSG;
    int r = ops->restore(&client->transport, client->ctx, client->fd, unpack);
    return r == 0 ? unpack_end(unpack) : r;
}

static int restore_session(struct client *client, struct unpack *unpack, unsigned version)
{
    static const enum session_kind sessions[] = {
        [SAVED_DUPLEX] = SESSION_WEBSOCKET,
        [SAVED_HTTP2] = SESSION_HTTP2,
        [SAVED_FIRST] = SESSION_FIRST,
    };
    if (client->fd < 0 && version != SAVED_DUPLEX)
        return -EBADMSG; /* nothing else is carried, and so nothing is deeper than that */
    if (sessions[version] == SESSION_HTTP1) /* 2: HTTP/2 without the ends of its streams */
        return -ENOTSUP;
    return client->ctx->sessions[sessions[version]]->restore(client, unpack);
}

/* A header may be awaited though this config wants none: it is on its way. */
static int restore_header(struct client *client, struct span bytes)
{
    struct proxy_header header;
    if (client->state != CLIENT_OPEN || client->last_request || client->paused ||
        client->pending != NULL || client->transport != NULL || client->session != SESSION_HTTP1 ||
        client_waiting(client) > 0 || proxy_protocol_parse(bytes.p, bytes.n, &header) != PROXY_MORE)
        return -EBADMSG;
    client->session = SESSION_PROXY;
    if (bytes.n == 0)
        return 0;
    client->pending = mem_zalloc(sizeof(*client->pending)); /* freed with the client */
    if (client->pending == NULL)
        return -ENOMEM;
    return buf_append(&client->pending->bytes, bytes.p, bytes.n);
}

static int restore_proxied(struct client *client, struct unpack *unpack)
{
    bool awaits = unpack_flag(unpack);
    struct span bytes = unpack_bytes(unpack);
    if (unpack_end(unpack) < 0 || (!awaits && bytes.n > 0))
        return -EBADMSG;
    client->proxied = true;
    return awaits ? restore_header(client, bytes) : 0;
}

/* Which peers are proxies is up to this config, but for one that is about to tell of its client. */
static void judge_peer(struct client *client)
{
    const struct conf_listener *listener = client_listener(client);
    struct peer peer = client_peer(client);
    bool told = client->proxied || listener->forwarded != CONF_FORWARDED_NONE;
    client->proxied = awaits_header(client) || (told && conf_trusts(listener, &peer));
}

static int restore_section(struct client *client, struct unpack_section *section)
{
    struct unpack *body = &section->body;
    int r = -EBADMSG;
    switch ((enum section)section->tag) {
    case SECTION_CLIENT: return restore_client(client, body);
    case SECTION_SESSION: return restore_session(client, body, section->version);
    case SECTION_TOPICS:
        if (client_is_duplex(client))
            r = topics_restore(client->ctx->topics, client, &client->duplex->subscriptions,
                client->duplex->route->realm, body);
        return r;
    case SECTION_OUT: return buf_append(&client->out, body->left.p, body->left.n);
    case SECTION_QUEUE:
        if (client_is_duplex(client))
            r = message_queue_restore(&client->ctx->restored, &client->queue, body);
        return r == 0 ? unpack_end(body) : r;
    case SECTION_PENDING: return restore_pending(client, body, section->version);
    case SECTION_UNUSED: client->used = false; return unpack_end(body);
    case SECTION_TRANSPORT: return restore_transport(client, body);
    case SECTION_PROXIED: return restore_proxied(client, body);
    case SECTION_DEFLATE: return duplex_restore_deflate(client, body);
    case SECTION_CLAIMS: return duplex_restore_claims(client, body);
    case SECTION_AFFINITY: return client_is_duplex(client) ? affinity_restore(client, body) : r;
    case SECTION_CANARY:
        if (!client_is_duplex(client))
            return r;
        client->duplex->canary = true;
        return unpack_end(body);
    case SECTIONS_END: break;
    }
    return r;
}

/* Not where something has come from it, or gone out to it, by all else that is known. */
static bool can_be_unused(const struct client *client)
{
    bool begun = client->state != CLIENT_OPEN || client_waiting(client) > client_sealed(client) ||
                 (client->pending != NULL && !awaits_header(client));
    bool known = client_is_duplex(client) &&
                 (client->session == SESSION_WEBSOCKET || client->duplex->subscriptions != NULL);
    return !begun && !known;
}

/* Puts the client among the unused ones, by its age. At most 64 places are looked at, so the order
 * may be a little wrong. */
static void join_unused(struct list *unused, struct client *client)
{
    struct list *after = unused->prev;
    for (unsigned i = 0; i < 64 && after != unused; i++, after = after->prev) {
        if (container_of(after, struct client, node)->active_at <= client->active_at)
            break;
    }
    list_append(after->next, &client->node); /* before the one that follows */
}

static unsigned newest_version(unsigned tag)
{
    switch (tag) {
    case SECTION_PENDING: return PENDING_VERSION_MAX;
    case SECTION_SESSION: return SAVED_HTTP2;
    default: return VERSION;
    }
}

static int restore_sections(struct client *client, struct span state)
{
    struct unpack unpack = {.left = state};
    struct unpack_section section;
    uint8_t last = 0;
    while (unpack_section(&unpack, &section)) {
        if (section.tag == 0 || section.tag >= SECTIONS_END || section.version < VERSION ||
            section.version > newest_version(section.tag))
            return -ENOTSUP;
        if (section.tag <= last || (last == 0 && section.tag != SECTION_CLIENT))
            return -EBADMSG;
        last = section.tag;
        int r = restore_section(client, &section);
        if (r < 0)
            return r;
    }
    if (last == 0 || unpack_end(&unpack) < 0)
        return -EBADMSG;
    if (!client->used && !can_be_unused(client))
        return -EBADMSG;
    /* Only one that is ending has no session of its listener's protocol. */
    if (client_listener(client)->protocol != CONF_PROTOCOL_HTTP && !client_is_duplex(client) &&
        client->state < CLIENT_ENDING && !awaits_header(client))
        return -EBADMSG;
    judge_peer(client);
    return 0;
}

/* Tells the poller of a client, while its connection can still be left to the old process. */
static int watch(struct client *client)
{
    int r = poller_set(&client->ctx->poller, client->fd, 0, EPOLLIN | CLIENT_LOST, client);
    if (r == 0) {
        client->events = EPOLLIN | CLIENT_LOST;
        client->reads = true;
    }
    return r == -EPERM ? -EBADMSG : r == 0 ? 0 : -ENOMEM;
}

static int restore(struct ctx *ctx, int fd, struct span state, struct client **ret_client)
{
    struct client *client = slab_get(&ctx->clients);
    if (client == NULL)
        return -ENOMEM;
    client->ctx = ctx;
    client->fd = fd;
    client->touched = client->arriving = true;
    client->used = true;                  /* unless the state says something else */
    client->bulky = client->wrote = true; /* for all that is known */
    list_init(&client->requests);
    list_init(&client->node);
    wheel_timer_init(&client->timer, TIMER_CLIENT);
    int r = restore_sections(client, state);
    client->heavy = client_waiting(client) > ctx->conf->limits.write_buffer;
    if (r == 0 && fd >= 0)
        r = watch(client);
    if (r < 0) {
        if (client_is_duplex(client))
            client_session(client)->forget(client);
        client_strip(client);
        slab_put(&ctx->clients, client);
        return r;
    }
    client_count(client);
    *ret_client = client;
    return 0;
}

int client_restore_carried(
    const struct client *carrier, struct span state, struct client **ret_client)
{
    struct client *client;
    int r = restore(carrier->ctx, -1, state, &client);
    if (r < 0)
        return r;
    if (client->session != SESSION_WEBSOCKET || client->listener != carrier->listener ||
        !client->used) {
        client_discard(client);
        return -EBADMSG;
    }
    *ret_client = client;
    return 0;
}

static bool join(struct client *carried, void *arg)
{
    struct client *carrier = arg;
    list_append(&carrier->node, &carried->node); /* the list that the carrier is in */
    return true;
}

int client_restore(
    struct ctx *ctx, struct list *all, int fd, struct span state, struct client **ret_client)
{
    struct client *client;
    int r = restore(ctx, fd, state, &client);
    if (r < 0)
        return r;
    if (client->used || ctx->used == NULL)
        list_append(all, &client->node);
    else
        join_unused(&ctx->unused, client);
    client_each_carried(client, join, client);
    *ret_client = client;
    return 0;
}
