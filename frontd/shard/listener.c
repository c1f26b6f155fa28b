/*
 * on_acceptable() accepts what waits, a number at a time. At a limit (connections over all shards,
 * or descriptors of this process), and when accept() fails for want of something (EMFILE, ENFILE,
 * ENOBUFS, ENOMEM), all listeners stop being polled, so that nothing spins; a timer looks again
 * soon. What waits in the accept queues stays there.
 */

#include "frontd/shard/listener.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"

enum {
    ACCEPT_BURST = 64, /* then others have their turn */
    PAUSE_MS = 50,
    SAY_MS = 10000, /* at most one line in that time says that accepting pauses */
};

int acceptor_init(struct acceptor *acceptor, struct ctx *ctx, size_t room)
{
    struct rlimit limit;
    *acceptor = (struct acceptor){.ctx = ctx, .room = room, .paused = true};
    list_init(&acceptor->clients);
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
    int r = uv_poll_init(&acceptor->ctx->loop, &listener->poll, fd);
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

/* Whether one more connection fits. Where it does, it is counted already. */
static bool admit(struct acceptor *acceptor)
{
    struct ctx *ctx = acceptor->ctx;
    if (ctx->open >= acceptor->most) {
        pause_accepting(acceptor, "the descriptor limit of this shard");
        return false;
    }
    if (!share_connection_add(ctx->share, ctx->seat, ctx->conf->limits.connections)) {
        pause_accepting(acceptor, "limits.connections");
        return false;
    }
    return true;
}

static void take(struct listener *listener, int fd, const struct sockaddr *peer)
{
    struct acceptor *acceptor = listener->acceptor;
    struct ctx *ctx = acceptor->ctx;
    uint64_t per_peer = ctx->conf->limits.connections_per_peer;
    if (per_peer > 0 && !share_peer_add(ctx->share, ctx->seat, peer, per_peer)) {
        share_connection_remove(ctx->share, ctx->seat);
        close(fd);
        return;
    }
    if (client_open(ctx, listener->conf, fd, peer, &acceptor->clients) < 0) {
        if (per_peer > 0)
            share_peer_remove(ctx->share, ctx->seat, peer);
        share_connection_remove(ctx->share, ctx->seat);
        pause_accepting(acceptor, "no memory");
    }
}

/* Returns false when there is nothing more to accept for now. */
static bool accept_one(struct listener *listener)
{
    struct acceptor *acceptor = listener->acceptor;
    struct ctx *ctx = acceptor->ctx;
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof(peer);
    if (!admit(acceptor))
        return false;
    int fd = accept4(listener->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        take(listener, fd, (struct sockaddr *)&peer);
        return !acceptor->paused;
    }
    int error = errno;
    share_connection_remove(ctx->share, ctx->seat);
    switch (error) {
    case EAGAIN: return false;
    case EINTR:
    case ECONNABORTED: /* and the network's errors that accept() passes on: that one is gone */
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH: return true;
    default: pause_accepting(acceptor, uv_strerror(-error)); return false;
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct listener *listener = poll->data;
    for (int i = 0; i < ACCEPT_BURST && accept_one(listener); i++)
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
    wheel_disarm(&acceptor->timer);
    for (size_t i = 0; i < acceptor->count; i++) {
        uv_close((uv_handle_t *)&acceptor->listeners[i].poll, NULL);
        /* Not later: who connects to one that is removed is to be refused, not to wait. */
        close(acceptor->listeners[i].fd);
    }
}

void acceptor_timeout(struct wheel_timer *timer)
{
    struct acceptor *acceptor = container_of(timer, struct acceptor, timer);
    struct ctx *ctx = acceptor->ctx;
    if (admit(acceptor)) {
        share_connection_remove(ctx->share, ctx->seat);
        acceptor_open(acceptor);
    }
}
