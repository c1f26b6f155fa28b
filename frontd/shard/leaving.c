/*
 * DRAIN → leaving_drain(): accepting stops, idle clients are closed, the others after their
 * answers. LEAVE → leaving_start(): accepting stops, and clients go to the shards of the next
 * generation (handover/sender.c). At the end of each turn leaving_turn() looks whether workers may
 * be left: they are with the last client. When they have nothing more to say, or at the drain
 * limit, everything is let go of, and the loop ends with the last handle.
 */

#include "frontd/shard/leaving.h"

#include "common/log.h"
#include "frontd/shard/net/resolver.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/shard_internal.h"
#include "frontd/shard/turn.h"
#include "frontd/shard/upstream/pool.h"

enum {
    ALONE_MS = 10000, /* for workers to take the calls that are left without a connection */
};

static bool calls_wait(const struct shard *shard)
{
    for (size_t i = 0; i < shard->npools; i++) {
        if (shard->pools[i].queue.count > 0)
            return true;
    }
    return false;
}

/* Lets go of everything: the loop ends when the last handle is closed. */
static void finish(struct shard *shard)
{
    if (shard->finished)
        return;
    shard->finished = true;
    acceptor_close(&shard->acceptor);
    sender_shut(shard->ctx.sender);
    receiver_shut(shard->ctx.receiver);
    turn_begin(&shard->ctx);
    list_for_each_safe (node, &shard->acceptor.clients) {
        struct client *client = container_of(node, struct client, node);
        client_because(client, METRIC_REASON_LEAVING);
        client_doom(client);
    }
    turn_flush(&shard->ctx);
    fanout_finish(&shard->ctx); /* no member is left */
    for (size_t i = 0; i < shard->npools; i++)
        pool_shut(&shard->pools[i]);
    turn_flush(&shard->ctx);
    mesh_shut(&shard->parts.mesh);
    poller_close(&shard->ctx.poller);
    poller_close(&shard->ctx.writers);
    resolver_close(&shard->parts.resolver);
    reattach_close(&shard->reattach);
    if (!uv_is_closing((uv_handle_t *)&shard->control))
        uv_close((uv_handle_t *)&shard->control, NULL);
    uv_close((uv_handle_t *)&shard->wake, NULL);
    turn_close(shard);
    uv_close((uv_handle_t *)&shard->drain_limit, NULL);
    uv_close((uv_handle_t *)&shard->beat, NULL);
}

/* Whether a client may still ask for something, or a call waits for a worker. */
static bool needs_workers(const struct shard *shard)
{
    list_for_each (node, &shard->acceptor.clients) {
        if (client_may_ask(container_of(node, struct client, node)))
            return true;
    }
    return calls_wait(shard);
}

static bool has_clients(const struct shard *shard)
{
    return !list_empty(&shard->acceptor.clients) || sender_has_clients(shard->ctx.sender);
}

static void leave_workers(struct shard *shard)
{
    if (shard->left)
        return;
    shard->left = true;
    for (size_t i = 0; i < shard->npools; i++)
        pool_leave(&shard->pools[i]);
    turn_flush(&shard->ctx);
}

static void go_on_draining(struct shard *shard)
{
    if (!needs_workers(shard))
        leave_workers(shard);
    if (shard->left && !has_clients(shard))
        finish(shard);
}

/*
 * Drops the calls that no client waits for, such as the news of a client's end, and no worker
 * takes.
 */
static void give_up_calls(struct shard *shard)
{
    for (size_t i = 0; i < shard->npools; i++)
        pool_drop_queue(&shard->pools[i]);
}

/*
 * Unlike in a drain, what workers still push is for connections that live on, so their channels are
 * read to the end. Once all connections are elsewhere, workers are waited for ALONE_MS at most.
 */
static void go_on_leaving(struct shard *shard)
{
    bool silent = true;
    uint64_t now = ctx_now(&shard->ctx);
    if (has_clients(shard)) {
        shard->alone = 0;
        return;
    }
    shard->alone = shard->alone == 0 ? now : shard->alone;
    if (now - shard->alone >= ALONE_MS)
        give_up_calls(shard);
    if (calls_wait(shard))
        return;
    leave_workers(shard);
    for (size_t i = 0; i < shard->npools; i++)
        silent &= pool_hang_up(&shard->pools[i]);
    turn_flush(&shard->ctx);
    if (silent && mesh_flushed(&shard->parts.mesh))
        finish(shard);
}

void leaving_turn(struct shard *shard)
{
    if (shard->ctx.draining)
        go_on_draining(shard);
    else if (shard->ctx.leaving)
        go_on_leaving(shard);
}

static void on_drain_limit(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    size_t left = 0;
    sender_shut(shard->ctx.sender);
    list_for_each (node, &shard->acceptor.clients)
        left++;
    log_warning("the drain limit has passed: closing %zu connections", left);
    list_for_each_safe (node, &shard->acceptor.clients) {
        struct client *client = container_of(node, struct client, node);
        if (client_is_duplex(client))
            duplex_say_goodbye(client);
    }
    turn_flush(&shard->ctx);
    finish(shard);
}

/* Answers that clients have continued elsewhere come to their end, so that their connections may
 * go. */
static void leave_streams(struct shard *shard)
{
    list_for_each_safe (node, &shard->acceptor.clients) {
        struct client *client = container_of(node, struct client, node);
        if (client->streams)
            shard->ctx.parts_ops->leave(client);
    }
}

void leaving_drain(struct shard *shard)
{
    if (shard->ctx.draining)
        return;
    shard->ctx.draining = true;
    shard->ctx.replaced = false;
    acceptor_close(&shard->acceptor);
    sender_shut(shard->ctx.sender);
    leave_streams(shard);
    list_for_each_safe (node, &shard->acceptor.clients)
        client_drain(container_of(node, struct client, node));
    uv_timer_start(&shard->drain_limit, on_drain_limit, shard->conf->drain, 0);
}

void leaving_start(struct shard *shard, const struct ctl_message *message)
{
    if (!shard->running) { /* newer shards were ready first: this one has never had a client */
        log_info("ends before it was ready, since new shards are");
        exit(0);
    }
    if (shard->ctx.draining || shard->ctx.leaving)
        return;
    for (uint32_t i = 0; i < shard->conf->nlisteners; i++) {
        if (message->u.leave.removed >> i & 1)
            acceptor_accept_rest(&shard->acceptor, &shard->conf->listeners[i]);
    }
    acceptor_close(&shard->acceptor);
    shard->ctx.replaced = true;
    bool foreign = ctl_is_foreign(message);
    if (foreign)
        log_warning("the new shards are of a version of the program that this one does not "
                    "understand: connections are closed in the course of the drain time");
    sender_start(shard->ctx.sender, &shard->acceptor.clients, shard->conf->drain, !foreign);
    leave_streams(shard);
    uv_timer_start(&shard->drain_limit, on_drain_limit, shard->conf->drain, 0);
}
