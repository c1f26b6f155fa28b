/*
 * A shard's messages from the supervisor, in their order:
 * - START: its identity, the config, the shared memory; TICKETS and TLS: keys of session tickets
 *   and certificates, where a listener has tls; LISTEN: its listening sockets; PEER, TAKE and GIVE:
 *   sockets to other shards;
 * - RUN: it looks for workers, and says READY when it is known which are there (ready.c);
 * - OPEN: it accepts connections;
 * - ASK: a question of an operator's (inspect/);
 * - DRAIN or LEAVE: it ends (leaving.c).
 *
 * When the supervisor is gone, nothing else changes: reattach.c looks for the next one. A shard
 * that was READY and has not been told OPEN opens by itself, since its sockets take connections;
 * one that was to take the place of others ends, as they serve on.
 *
 * A turn of the loop: events are handled, which gathers bytes to write; before the loop waits
 * again, all of them are written (turn.c).
 */

#include "frontd/shard/shard.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/secret.h"
#include "frontd/config/file.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/tls_material.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/held_back.h"
#include "frontd/shard/leaving.h"
#include "frontd/shard/net/profile.h"
#include "frontd/shard/net/resolver.h"
#include "frontd/shard/ready.h"
#include "frontd/shard/request/parts.h"
#include "frontd/shard/request/policy.h"
#include "frontd/shard/request/rebind.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/sandbox.h"
#include "frontd/shard/shard_internal.h"
#include "frontd/shard/tls/seal_log.h"
#include "frontd/shard/turn.h"
#include "frontd/system/loop.h"
#include "frontd/system/privileges.h"

enum {
    LISTENERS_MAX = 4096, /* sockets of one shard: those of many, where shards became fewer */
    FIRST_WITH_RINGS = 1 << 16 | 45 << 8, /* libuv 1.45 */
};

static int on_open(struct shard *shard)
{
    if (!shard->running)
        return -EPROTO;
    shard->opened = true;
    if (!shard->acceptor.closed)
        acceptor_open(&shard->acceptor);
    return 0;
}

static void on_wake(uv_poll_t *poll, int status, int events)
{
    (void)events;
    profile_enter(PROFILE_WORKERS);
    struct shard *shard = poll->data;
    uint64_t count;
    if (status < 0 || read(shard->fds[CTL_WAKE], &count, sizeof(count)) < 0)
        return;
    held_back_look(shard);
    for (size_t i = 0; i < shard->npools; i++)
        pool_wake(&shard->pools[i]);
    acceptor_wake(&shard->acceptor);
}

static void on_beat(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    share_beat(shard->share, shard->ctx.seat);
    held_back_look(shard);
    for (size_t i = 0; i < shard->npools; i++)
        pool_beat(&shard->pools[i]);
    for (size_t i = 0; i < shard->npools; i++)
        pool_count_workers(&shard->pools[i]);
    rebind_beat(&shard->ctx);
    ctx_count_gauges(&shard->ctx);
    refusal_tell(ctx_now(&shard->ctx));
    slow_log_tell(&shard->parts.slow, ctx_now(&shard->ctx));
    trouble_look(&shard->ctx, shard->pools, shard->npools);
}

/* From here on it may ask the kernel for what it needs to serve, and for nothing else. */
static int shut_in(const struct conf *conf)
{
    if (!conf->seccomp)
        return 0;
    int r = sandbox_enter();
    if (r > 0)
        log_warning("this kernel has no seccomp: the shard runs without a filter of system calls");
    else if (r < 0)
        log_error(
            "cannot filter system calls (`seccomp: false` does without): %s", log_error_text(r));
    return MIN(r, 0);
}

static int init_handles(struct shard *shard)
{
    uv_loop_t *loop = &shard->ctx.loop;
    turn_open(shard);
    CHECK(uv_timer_init(loop, &shard->drain_limit) == 0);
    CHECK(uv_timer_init(loop, &shard->beat) == 0);
    shard->beat.data = shard;
    CHECK(uv_timer_start(&shard->beat, on_beat, SHARE_BEAT_MS / 2, SHARE_BEAT_MS / 2) == 0);
    reattach_init(&shard->reattach, loop, CTL_FD);
    shard->drain_limit.data = shard;
    int r = loop_poll_init(loop, &shard->wake, shard->fds[CTL_WAKE]);
    if (r < 0)
        return r;
    shard->wake.data = shard;
    return uv_poll_start(&shard->wake, UV_READABLE, on_wake);
}

static bool has_names(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        for (uint32_t k = 0; k < conf->pools[i].nworkers; k++) {
            if (conf->pools[i].workers[k].host != NULL)
                return true;
        }
    }
    return false;
}

static int on_start(struct shard *shard, const struct ctl_start *start, const int *fds)
{
    struct ctx *ctx = &shard->ctx;
    struct buf text;
    char error[512];
    char who[32];
    if (shard->started || start->seat > SHARE_SEAT_LAST || start->shard >= start->shards)
        return -EPROTO;
    shard->start = *start;
    shard->start.instance[sizeof(start->instance) - 1] = '\0';
    shard->start.conf_name[sizeof(start->conf_name) - 1] = '\0';
    memcpy(shard->fds, fds, sizeof(shard->fds));
    /* Where to listen is not its business: it is given sockets. */
    static const struct conf_findings blind = {.blind = true};
    int r = conf_file_try_fd(
        fds[CTL_CONF], shard->start.conf_name, &blind, &text, &shard->conf, error, sizeof(error));
    if (r < 0) {
        log_error("%s", error);
        return r;
    }
    buf_deinit(&text);
    snprintf(
        who, sizeof(who), "shard %llu/%u", (unsigned long long)start->generation, start->shard);
    log_init(shard->conf->log_level, shard->conf->log_format, who);
    r = share_map(fds[CTL_SHARE], &start->table, &shard->share);
    if (r < 0)
        return r;
    share_set_peer_prefix(shard->share, shard->conf->limits.peer_prefix);
    ctx->seat = start->seat;
    ctx->identity = (struct identity){
        .instance = shard->start.instance,
        .incarnation = start->incarnation,
        .generation = start->generation,
        .shard = start->shard,
        .shards = start->shards,
    };
    ids_init(&ctx->conn_ids, start->conn_key, start->incarnation);
    seal_log_open();
    r = privileges_lose(shard->conf->user); /* only the supervisor has any */
    if (r < 0)
        log_error("cannot give up privileges: %s", log_error_text(r));
    int names = -1; /* to the process that looks them up */
    if (r == 0 && has_names(shard->conf) && (r = names = resolver_start()) < 0)
        log_error("cannot start a process that looks up names of workers: %s", log_error_text(r));
    if (r >= 0)
        r = shut_in(shard->conf);
    if (r == 0 && names >= 0)
        r = resolver_open(&shard->parts.resolver, ctx, names);
    if (r == 0)
        r = parts_init(&shard->parts, ctx, shard->conf, shard->share);
    if (r == 0)
        r = init_handles(shard);
    if (r == 0)
        r = acceptor_init(&shard->acceptor, ctx, LISTENERS_MAX);
    if (r == 0)
        receiver_init(shard->ctx.receiver, &shard->acceptor);
    shard->started = r == 0;
    return r;
}

/* Where keys change, those that were there stay in no other place. */
static int on_tickets(struct shard *shard, struct tls_ticket_keys *keys)
{
    bool valid = shard->started && keys->count <= TLS_TICKET_KEYS_MAX;
    if (valid && shard->tickets == NULL)
        shard->tickets = secret_alloc(sizeof(*shard->tickets));
    if (valid && shard->tickets != NULL)
        *shard->tickets = *keys;
    secret_wipe(keys, sizeof(*keys));
    shard->ctx.ticket_keys = shard->tickets;
    return !valid ? -EPROTO : shard->tickets == NULL ? -ENOMEM : 0;
}

/* What workers are dialled with over TLS. Returns 0 or -errno, and the log says why. */
static int use_pool_tls(struct shard *shard, const struct tls_material *material)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < material->npools; i++) {
        const struct tls_material_pool *pool = &material->pools[i];
        r = stream_tls_context(
            pool->ca, pool->own.cert, pool->own.key, &shard->pool_tls[pool->pool]);
        if (r < 0)
            log_error("pool %s: its certificates cannot be used: %s",
                shard->conf->pools[pool->pool].name, log_error_text(r));
    }
    return r;
}

/* Reads certificates and keys once; what it needs of them it has afterwards. fd: consumed. */
static int on_tls(struct shard *shard, int fd)
{
    struct tls_material material = {0};
    int r = shard->started && !shard->opening && !shard->has_tls ? 0 : -EPROTO;
    if (r == 0)
        r = tls_material_map(fd, &material);
    close(fd);
    if (r == 0)
        r = tls_material_fits(&material, shard->conf) ? tls_use(&shard->parts.tls, &material)
                                                      : -EPROTO;
    if (r == 0)
        r = use_pool_tls(shard, &material);
    if (r == 0)
        r = auth_use(&shard->parts.auth, &material);
    tls_material_unmap(&material);
    shard->has_tls = r == 0;
    return r;
}

/* Whether the supervisor has sent what the listener needs: nothing is ever served plain, or to
 * clients without a token, instead. */
static bool may_listen(const struct shard *shard, const struct conf_listener *listener)
{
    return (listener->tls == NULL && shard->conf->njwts == 0) || shard->has_tls;
}

static int on_listen(struct shard *shard, const struct ctl_listen *listen, const int *fds)
{
    for (uint32_t i = 0; i < listen->count; i++) {
        if (!shard->started || shard->running || listen->listeners[i] >= shard->conf->nlisteners ||
            shard->acceptor.count == LISTENERS_MAX ||
            !may_listen(shard, &shard->conf->listeners[listen->listeners[i]]))
            return -EPROTO;
        int r = acceptor_add(
            &shard->acceptor, &shard->conf->listeners[listen->listeners[i]], fds[i]);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Where lines of the access log go, or spans. fd: consumed. */
static int on_file(struct shard *shard, enum ctl_type type, int fd)
{
    if (!shard->started) {
        close(fd);
        return -EPROTO;
    }
    if (shard->finished) {
        close(fd);
        return 0;
    }
    return type == CTL_TRACE ? tracer_use(&shard->ctx, fd) : access_log_use(&shard->ctx, fd);
}

static int on_run(struct shard *shard)
{
    struct ctx *ctx = &shard->ctx;
    if (!shard->started || shard->opening)
        return -EPROTO;
    shard->pools = mem_zalloc(shard->conf->npools * sizeof(*shard->pools));
    if (shard->pools == NULL)
        return -ENOMEM;
    request_init(ctx, shard->pools);
    parts_register(ctx);
    int r = policy_init(ctx);
    for (uint32_t i = 0; r == 0 && i < shard->conf->npools; i++) {
        r = parts_init_pool(&shard->pools[i], ctx, i);
        if (r == 0) {
            shard->pools[i].tls = shard->pool_tls[i];
            shard->npools++;
            r = pool_open(&shard->pools[i]);
        }
    }
    if (r < 0)
        return r;
    ready_start(shard);
    return 0;
}

/* A socket to another shard, to which connections go (CTL_GIVE), or from which they come. */
static int on_handover(struct shard *shard, enum ctl_type type, unsigned seat, int fd)
{
    if (!shard->started || shard->finished) {
        close(fd);
        return shard->finished ? 0 : -EPROTO;
    }
    return type == CTL_GIVE ? sender_add(shard->ctx.sender, seat, fd)
                            : receiver_add(shard->ctx.receiver, seat, fd);
}

static int on_peer(struct shard *shard, unsigned seat, const int *fds)
{
    if (!shard->started || shard->finished || seat > SHARE_SEAT_LAST) {
        fdpass_close(fds, CTL_PEER_FDS);
        return shard->finished ? 0 : -EPROTO;
    }
    int *wake = &shard->ctx.wake_fds[seat];
    if (*wake >= 0)
        close(*wake);
    *wake = fds[CTL_PEER_WAKE];
    return mesh_add(&shard->parts.mesh, seat, fds[CTL_PEER_SOCK]);
}

static int on_ask(struct shard *shard, const struct ctl_ask *ask, int fd)
{
    if (!shard->running || shard->finished) {
        close(fd);
        return shard->running ? 0 : -EPROTO;
    }
    inspect_ask(&shard->parts.inspect, ask, fd);
    return 0;
}

static int on_message(struct shard *shard, struct ctl_message *message, const int *fds)
{
    switch (message->type) {
    case CTL_START: return on_start(shard, &message->u.start, fds);
    case CTL_TICKETS: return on_tickets(shard, &message->u.tickets);
    case CTL_TLS: return on_tls(shard, fds[0]);
    case CTL_ACCESS_LOG:
    case CTL_TRACE: return on_file(shard, message->type, fds[0]);
    case CTL_LISTEN: return on_listen(shard, &message->u.listen, fds);
    case CTL_PEER: return on_peer(shard, message->u.peer.seat, fds);
    case CTL_TAKE:
    case CTL_GIVE: return on_handover(shard, message->type, message->u.peer.seat, fds[0]);
    case CTL_LEAVE: leaving_start(shard, message); return 0;
    case CTL_RUN: return on_run(shard);
    case CTL_OPEN: return on_open(shard);
    case CTL_DRAIN: leaving_drain(shard); return 0;
    case CTL_ASK: return on_ask(shard, &message->u.ask, fds[0]);
    default: return -EPROTO;
    }
}

static void on_control(uv_poll_t *poll, int status, int events);

static int open_control(struct shard *shard)
{
    int r = loop_poll_init(&shard->ctx.loop, &shard->control, CTL_FD);
    if (r < 0)
        return r;
    shard->control.data = shard;
    return uv_poll_start(&shard->control, UV_READABLE, on_control);
}

/* A new supervisor is on descriptor 3. */
static void on_found(struct reattach *reattach)
{
    struct shard *shard = container_of(reattach, struct shard, reattach);
    if (open_control(shard) < 0) {
        log_error("cannot listen to the new supervisor: finishing calls, then exiting");
        leaving_drain(shard);
    }
}

static void on_gave_up(struct reattach *reattach)
{
    leaving_drain(container_of(reattach, struct shard, reattach));
}

static int send_listeners(const struct shard *shard, int sock)
{
    const struct acceptor *acceptor = &shard->acceptor;
    size_t at = 0;
    while (at < acceptor->count && !acceptor->closed) {
        struct ctl_message message = {0};
        struct ctl_listen *listen = &message.u.listen;
        int fds[CTL_LISTEN_MAX];
        while (at < acceptor->count && listen->count < CTL_LISTEN_MAX) {
            const struct listener *listener = &acceptor->listeners[at++];
            fds[listen->count] = listener->fd;
            listen->listeners[listen->count++] = (uint32_t)(listener->conf -
                                                            shard->conf->listeners);
        }
        int r = ctl_send(sock, CTL_LISTEN, &message, fds, listen->count);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_tickets(const struct shard *shard, int sock)
{
    struct ctl_message message;
    if (shard->tickets == NULL || shard->tickets->count == 0)
        return 0;
    message.u.tickets = *shard->tickets;
    int r = ctl_send(sock, CTL_TICKETS, &message, NULL, 0);
    secret_wipe(&message.u.tickets, sizeof(message.u.tickets));
    return r;
}

static int on_report(struct reattach *reattach, int sock)
{
    struct shard *shard = container_of(reattach, struct shard, reattach);
    struct ctl_message message = {0};
    struct ctl_message ready = {0};
    int r = ctl_send(sock, CTL_REPORT, &message, &shard->fds[CTL_SHARE], 1);
    if (r == 0)
        r = send_listeners(shard, sock);
    if (r == 0)
        r = send_tickets(shard, sock);
    return r == 0 ? ctl_send(sock, CTL_READY, &ready, NULL, 0) : r;
}

static const struct reattach_ops reattach_ops = {
    .report = on_report,
    .found = on_found,
    .gave_up = on_gave_up,
};

static void on_control_closed(uv_handle_t *handle)
{
    struct shard *shard = handle->data;
    if (!shard->finished)
        reattach_start(&shard->reattach, &reattach_ops, shard->conf->run_dir);
}

static void go_on_alone(struct shard *shard, int why)
{
    if (!shard->opened && shard->start.serving != 0) {
        log_error(
            "the supervisor is gone (%s): this shard ends, since those that it was to replace "
            "serve on",
            log_error_text(why));
        exit(0);
    }
    log_error(
        "the supervisor is gone (%s): serving on, until there is another one", log_error_text(why));
    if (!shard->opened)
        on_open(shard);
    inspect_forget(&shard->parts.inspect);
    uv_close((uv_handle_t *)&shard->control, on_control_closed);
}

static void on_control(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct shard *shard = poll->data;
    struct ctl_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    while (!uv_is_closing((uv_handle_t *)poll)) {
        int r = ctl_receive(CTL_FD, &message, fds, &nfds);
        if (r == -EAGAIN)
            return;
        if (shard->running && (r == -EMFILE || r == -ENOTSUP)) {
            log_error("the supervisor says something in vain: %s",
                r == -EMFILE ? "there are no descriptors left for what it passes"
                             : "it is of another version of the program");
            continue;
        }
        if (r < 0 && shard->running) {
            go_on_alone(shard, r);
            return;
        }
        if (r == 0)
            r = on_message(shard, &message, fds);
        if (r < 0 && r != -EPIPE)
            log_error("cannot %s: %s", shard->running ? "go on" : "start", log_error_text(r));
        if (r < 0)
            exit(1);
    }
}

static void deinit(struct shard *shard)
{
    struct ctx *ctx = &shard->ctx;
    CHECK(uv_loop_close(&ctx->loop) == 0);
    for (size_t i = 0; i < shard->npools; i++)
        pool_deinit(&shard->pools[i]);
    mem_free(shard->pools);
    for (size_t i = 0; i < ARRAY_LEN(shard->pool_tls); i++)
        stream_tls_context_free(shard->pool_tls[i]);
    acceptor_deinit(&shard->acceptor);
    secret_free(shard->tickets, sizeof(*shard->tickets));
    policy_deinit(ctx);
    parts_deinit(&shard->parts, ctx);
    share_unmap(shard->share);
    conf_free(shard->conf);
    fdpass_close(shard->fds, CTL_START_FDS);
}

int shard_run(void)
{
    mem_tune();
    struct shard *shard = mem_zalloc(sizeof(*shard));
    if (shard == NULL) {
        log_error("cannot start: no memory");
        return 1;
    }
    /* The supervisor decides: a terminal's Ctrl-C and systemd's stop reach every process. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (uv_version() >= FIRST_WITH_RINGS)
        sandbox_without_rings();
    int r = loop_init(&shard->ctx.loop);
    if (r == 0)
        r = open_control(shard);
    if (r < 0) {
        log_error("cannot start: %s", log_error_text(r));
        return 1;
    }
    uv_run(&shard->ctx.loop, UV_RUN_DEFAULT);
    deinit(shard);
    mem_free(shard);
    return 0;
}
