/*
 * on_acceptable() accepts what waits, a number at a time. At a limit (connections over all shards,
 * or descriptors of this process) the oldest connection that has never been used is closed for one
 * that waits (ctx->unused has them in the order of their age). Where there is none, and when
 * accept() fails for want of something else (ENOBUFS, ENOMEM), all listeners stop being polled, so
 * that nothing spins; a timer looks again soon. Clients wait in the accept queues meanwhile.
 *
 * A connection whose first bytes have arrived is not unused, also when they have not been read: the
 * socket is asked before it is closed. So a client that sends at once, as nearly all do, is served
 * however fast others open connections. A client whose first bytes come later than the connection
 * has GRACE_MS. That is short on purpose: an attacker that opens connections at full speed, and
 * sends nothing, can fill the shard once in this time, and until it is over all clients wait.
 *
 * limits.connections is for all shards, and the unused connections may be on another shard than the
 * client that waits: that shard is woken, and closes one of its own (acceptor_wake()).
 */

#include "frontd/shard/client/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/net/profile.h"
#include "frontd/shard/tls/tls.h"
#include "frontd/system/loop.h"

enum {
    ACCEPT_BURST = 64, /* then others have their turn */
    ACCEPT_BUSY = 2,   /* with TLS, while handshakes wait: more would only wait with them */
    PAUSE_MS = 50,
    GRACE_MS = 100, /* for the first byte of a connection, before it makes room for another one */
    SAY_MS = 10000, /* at most one line in that time says that accepting pauses */
};

int acceptor_init(struct acceptor *acceptor, struct ctx *ctx, size_t room)
{
    struct rlimit limit;
    *acceptor = (struct acceptor){.ctx = ctx, .room = room, .paused = true};
    list_init(&acceptor->clients);
    ctx->used = &acceptor->clients;
    wheel_timer_init(&acceptor->timer, TIMER_ACCEPT);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        limit.rlim_cur = 1024;
    acceptor->most = conf_connections_of(limit.rlim_cur, ctx->conf->shards);
    acceptor->listeners = mem_zalloc(MAX(room, (size_t)1) * sizeof(*acceptor->listeners));
    return acceptor->listeners == NULL ? -ENOMEM : 0;
}

void acceptor_deinit(struct acceptor *acceptor)
{
    CHECK(list_empty(&acceptor->clients));
    acceptor->listeners = mem_free(acceptor->listeners);
}

int acceptor_add(struct acceptor *acceptor, const struct conf_listener *conf, int fd)
{
    CHECK(acceptor->count < acceptor->room);
    struct listener *listener = &acceptor->listeners[acceptor->count];
    *listener = (struct listener){.acceptor = acceptor, .conf = conf, .fd = fd};
    int r = loop_poll_init(&acceptor->ctx->loop, &listener->poll, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    listener->poll.data = listener;
    acceptor->count++;
    return 0;
}

static void pause_accepting(struct acceptor *acceptor, const char *why)
{
    uint64_t now = ctx_now(acceptor->ctx);
    if (!acceptor->paused) {
        if (now - acceptor->said_at >= SAY_MS || acceptor->said_at == 0) {
            acceptor->said_at = now;
            log_warning("accepting pauses: %s; %llu connections are open", why,
                (unsigned long long)acceptor->ctx->open);
        }
        for (size_t i = 0; i < acceptor->count; i++)
            uv_poll_stop(&acceptor->listeners[i].poll);
    }
    acceptor->paused = true;
    ctx_arm(acceptor->ctx, &acceptor->timer, PAUSE_MS);
}

/* Whether bytes of the client wait to be read. Those of a handshake ask for nothing. */
static bool has_sent(const struct client *client)
{
    char byte;
    if (client_is_opening(client))
        return false;
    return recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The oldest connection that has never been used, if GRACE_MS are over for it; NULL: none. One that
 * arrives from another process may still be that process's. */
static struct client *oldest_unused(const struct acceptor *acceptor)
{
    struct ctx *ctx = acceptor->ctx;
    list_for_each_safe (node, &ctx->unused) {
        struct client *client = container_of(node, struct client, node);
        if (client->arriving)
            continue;
        if (ctx_now(ctx) - client->active_at < GRACE_MS)
            return NULL;
        if (!has_sent(client))
            return client;
        client_set_used(client); /* which takes it out of the list */
    }
    return NULL;
}

size_t acceptor_make_room(struct acceptor *acceptor, size_t n)
{
    size_t made = 0;
    while (made < n) {
        struct client *client = oldest_unused(acceptor);
        if (client == NULL || !client_evict(client))
            break;
        made++;
        log_limited(&acceptor->evicted, ctx_now(acceptor->ctx), LOG_WARNING,
            "a connection on which nothing has come is closed, to have room for another one; "
            "%llu connections are open",
            (unsigned long long)acceptor->ctx->open);
    }
    return made;
}

/* Whether a client waits to be accepted. */
static bool is_waited_for(const struct listener *listener)
{
    struct pollfd pfd = {.fd = listener->fd, .events = POLLIN};
    return poll(&pfd, 1, 0) == 1;
}

static bool count_one(const struct acceptor *acceptor)
{
    struct ctx *ctx = acceptor->ctx;
    return share_connection_add(ctx->share, ctx->seat, ctx->conf->limits.connections);
}

/* Whether one more connection fits. */
static bool has_room(struct acceptor *acceptor)
{
    struct ctx *ctx = acceptor->ctx;
    if (ctx_memory(ctx) >= MEMORY_SHORT || ctx->open >= acceptor->most || !count_one(acceptor))
        return false;
    share_connection_remove(ctx->share, ctx->seat);
    return true;
}

/* Wakes the other shards: each closes an unused connection, if it has one. */
static void ask_siblings(const struct ctx *ctx)
{
    for (unsigned i = 0; i < SHARE_SEATS; i++)
        ctx_wake(ctx, i);
}

void acceptor_wake(struct acceptor *acceptor)
{
    struct ctx *ctx = acceptor->ctx;
    if (list_empty(&ctx->unused))
        return;
    if (count_one(acceptor))
        share_connection_remove(ctx->share, ctx->seat);
    else
        acceptor_make_room(acceptor, 1);
}

/* Whether there is room for a client that may wait there. If so, it is counted already. */
static bool admit(struct listener *listener)
{
    struct acceptor *acceptor = listener->acceptor;
    struct ctx *ctx = acceptor->ctx;
    if (ctx_memory(ctx) >= MEMORY_SHORT) {
        pause_accepting(acceptor, "limits.memory");
        return false;
    }
    if (ctx->open < acceptor->most && count_one(acceptor))
        return true;
    if (!is_waited_for(listener))
        return false;
    if (acceptor_make_room(acceptor, 1) == 1 && ctx->open < acceptor->most && count_one(acceptor))
        return true;
    if (ctx->open < acceptor->most)
        ask_siblings(ctx);
    pause_accepting(acceptor,
        ctx->open < acceptor->most ? "limits.connections" : "the descriptor limit of this shard");
    return false;
}

/* Counts a connection that is closed as soon as it was accepted. */
static void count_closed(const struct listener *listener, enum metric_reason reason)
{
    struct ctx *ctx = listener->acceptor->ctx;
    struct listener_words *words = counts_listener(
        &ctx->counts, (uint32_t)(listener->conf - ctx->conf->listeners));
    share_count(words->accepted, 1);
    share_count(&words->closed[reason], 1);
}

/* Returns the descriptor of a new connection, or -errno. */
static int accept_fd(struct listener *listener, struct sockaddr_storage *ret_peer)
{
    socklen_t len = sizeof(*ret_peer);
    int fd = accept4(listener->fd, (struct sockaddr *)ret_peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static void refuse(struct listener *listener, int fd, const struct peer *peer, enum refusal kind)
{
    struct ctx *ctx = listener->acceptor->ctx;
    refusal_note_peer(ctx, listener->conf, peer, kind);
    share_connection_remove(ctx->share, ctx->seat);
    count_closed(listener, METRIC_REASON_REFUSED);
    close(fd);
}

static void take(struct listener *listener, int fd, const struct sockaddr *address)
{
    struct acceptor *acceptor = listener->acceptor;
    struct ctx *ctx = acceptor->ctx;
    struct peer peer = peer_of_address(address);
    bool proxied = conf_trusts(listener->conf, &peer);
    uint64_t per_peer = proxied ? 0 : ctx->conf->limits.connections_per_peer;
    if (UNLIKELY(listener->conf->proxy_protocol && !proxied)) {
        refuse(listener, fd, &peer, REFUSED_NO_PROXY);
        return;
    }
    if (!proxied && UNLIKELY(!conf_admits(&listener->conf->access, &peer))) {
        refuse(listener, fd, &peer, REFUSED_ADDRESS);
        return;
    }
    if (per_peer > 0 && !share_peer_add(ctx->share, ctx->seat, address, per_peer)) {
        refuse(listener, fd, &peer, REFUSED_PEER_LIMIT);
        return;
    }
    if (client_open(ctx, listener->conf, fd, &peer, proxied, &acceptor->clients) < 0) {
        if (per_peer > 0)
            share_peer_remove(ctx->share, ctx->seat, address);
        share_connection_remove(ctx->share, ctx->seat);
        count_closed(listener, METRIC_REASON_ROOM);
        pause_accepting(acceptor, "no memory");
    }
}

/* Returns false when there is nothing more to accept for now. */
static bool accept_one(struct listener *listener)
{
    struct acceptor *acceptor = listener->acceptor;
    struct ctx *ctx = acceptor->ctx;
    struct sockaddr_storage peer = {0};
    if (!admit(listener))
        return false;
    int fd = accept_fd(listener, &peer);
    if ((fd == -EMFILE || fd == -ENFILE) && is_waited_for(listener) &&
        acceptor_make_room(acceptor, 1) == 1)
        fd = accept_fd(listener, &peer);
    if (fd >= 0) {
        take(listener, fd, (struct sockaddr *)&peer);
        return !acceptor->paused;
    }
    share_connection_remove(ctx->share, ctx->seat);
    switch (-fd) {
    case EAGAIN: return false;
    case EINTR:
    case ECONNABORTED: /* and errors of the network that accept() passes on: the client is gone */
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH: return true;
    default: pause_accepting(acceptor, log_error_text(fd)); return false;
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    profile_enter(PROFILE_ACCEPTING);
    (void)status;
    (void)events;
    struct listener *listener = poll->data;
    bool busy = listener->conf->tls != NULL && tls_unfinished(listener->acceptor->ctx->tls);
    int burst = busy ? ACCEPT_BUSY : ACCEPT_BURST;
    for (int i = 0; i < burst && accept_one(listener); i++)
        ;
}

void acceptor_open(struct acceptor *acceptor)
{
    acceptor->paused = false;
    for (size_t i = 0; i < acceptor->count; i++)
        CHECK(uv_poll_start(&acceptor->listeners[i].poll, UV_READABLE, on_acceptable) == 0);
}

void acceptor_accept_rest(struct acceptor *acceptor, const struct conf_listener *conf)
{
    enum { REST_MAX = 65536 }; /* more than any accept queue holds */
    for (size_t i = 0; i < acceptor->count && !acceptor->closed; i++) {
        struct listener *listener = &acceptor->listeners[i];
        if (listener->conf != conf)
            continue;
        for (int n = 0; n < REST_MAX && accept_one(listener); n++)
            ;
    }
}

void acceptor_close(struct acceptor *acceptor)
{
    if (acceptor->closed)
        return;
    acceptor->closed = true;
    acceptor->paused = true;
    acceptor->ctx->used = NULL;
    list_join(&acceptor->clients, &acceptor->ctx->unused);
    wheel_disarm(&acceptor->timer);
    for (size_t i = 0; i < acceptor->count; i++) {
        uv_close((uv_handle_t *)&acceptor->listeners[i].poll, NULL);
        /* Not later: a client that connects to a removed listener is refused, and does not wait. */
        close(acceptor->listeners[i].fd);
    }
}

void acceptor_timeout(struct wheel_timer *timer)
{
    struct acceptor *acceptor = container_of(timer, struct acceptor, timer);
    if (has_room(acceptor) || oldest_unused(acceptor) != NULL) {
        acceptor_open(acceptor);
        return;
    }
    if (acceptor->ctx->open < acceptor->most)
        ask_siblings(acceptor->ctx);
    ctx_arm(acceptor->ctx, &acceptor->timer, PAUSE_MS);
}
