/*
 * sender_start() touches every client; each that is idle at the end of a turn is in ctx->idle then,
 * and goes with the next round (sender_round.c), which sends a batch to each target. TAKEN comes
 * back from each: the clients that were taken are released, the others stay here, and are closed in
 * the course of the drain time. When all targets have answered, the next round begins.
 *
 * A batch comes to another end where
 * - the target ends, or breaks the order of messages: its clients thaw, and go with the next round;
 * - the target has no room (TAKEN with `full`): the same, and it is left out for a while;
 * - this side breaks off: from then on TAKEN cannot be sent, and one that lies there counts.
 * So a connection never has two owners.
 *
 * Pushes for a frozen client go by. They are in the journal, and are given to it by the shard that
 * has it afterwards: each batch carries how far every shard had been heard here at the freeze.
 *
 * A busy client, which always has some call in progress, becomes idle because requests are paused
 * now and then for a moment (ctx->requests_paused).
 */

#include "frontd/shard/handover/sender.h"

#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/handover/message.h"
#include "frontd/shard/handover/sender_internal.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/push/push.h"
#include "frontd/system/loop.h"

enum {
    PAUSE_TICKS = 2, /* of PAUSE_PERIOD ticks, those in which no second request is started */
    PAUSE_PERIOD = 20,
    BEHIND_MS = 50, /* a batch is answered sooner where the target is not behind */
    CLOSE_PARTS =
        4, /* a client that is not taken is closed within 3 of 4 parts of the drain time */
};

void sender_init(struct sender *sender, struct ctx *ctx)
{
    sender->ctx = ctx;
    list_init(&sender->kept);
    wheel_timer_init(&sender->timer, TIMER_SENDER);
}

static void on_target_closed(uv_handle_t *handle)
{
    struct target *target = handle->data;
    close(target->fd);
    target->used = false;
}

static bool any_sent(const struct sender *sender)
{
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        if (sender->targets[i].sent)
            return true;
    }
    return false;
}

bool sender_has_clients(const struct sender *sender)
{
    return any_sent(sender) || !list_empty(&sender->ctx->idle) || !list_empty(&sender->kept);
}

void sender_take_back(struct sender *sender, struct client **clients, size_t n,
    const struct positions *since, bool for_good)
{
    for (size_t i = 0; i < n; i++) {
        if (for_good)
            client_keep(clients[i]);
        else
            client_thaw(clients[i]);
        list_append(for_good ? &sender->kept : sender->all, &clients[i]->node);
        clients[i]->arriving = true;
    }
    journal_replay(&sender->ctx->mesh->journal, since, push_replay, sender->ctx);
    for (size_t i = 0; i < n; i++)
        clients[i]->arriving = false;
}

void sender_settle_batch(struct target *target, const uint8_t *taken, bool for_good)
{
    struct sender *sender = target->sender;
    struct client *back[HANDOVER_BATCH_MAX];
    size_t nback = 0;
    for (uint32_t i = 0; i < target->count; i++) {
        struct client *client = target->clients[i];
        if (taken[i / 8] >> (i % 8) & 1) {
            sender->given++;
            target->given++;
            client_release(client);
        } else {
            back[nback++] = client;
        }
    }
    target->sent = false;
    target->count = 0;
    target->bytes = 0;
    /* A message that is on its way to members passes frozen ones by, and is in the journal. */
    if (nback > 0)
        fanout_finish(sender->ctx);
    sender_take_back(sender, back, nback, &target->at, for_good);
    if (for_good && nback > 0)
        log_warning("%zu connections cannot go to the new shards, they are closed in the course "
                    "of the drain time",
            nback);
    if (!any_sent(sender))
        journal_record(&sender->ctx->mesh->journal, JOURNAL_SENDER, false);
}

/* Whether a message is the answer to the batch that is on its way. */
static bool answers_batch(const struct target *target, const struct handover_message *message)
{
    return message->type == HANDOVER_TAKEN && target->sent && message->batch == target->batch &&
           message->count == target->count;
}

/* Ends the talk with a target. Its batch was taken where the answer lies there already. */
static void hang_up(struct target *target)
{
    static const uint8_t none[(HANDOVER_BATCH_MAX + 7) / 8];
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    shutdown(target->fd, SHUT_RD); /* from here on an answer cannot be sent: it fails over there */
    while (target->sent && handover_receive(target->fd, &message, fds, &nfds) == 0) {
        if (answers_batch(target, &message))
            sender_settle_batch(target, message.taken, false);
        else
            fdpass_close(fds, nfds);
    }
    target->open = false;
    target->ready = false;
    uv_close((uv_handle_t *)&target->poll, on_target_closed);
    if (target->sent)
        sender_settle_batch(target, none, false);
}

void sender_lose(struct target *target, const char *why)
{
    if (!target->open)
        return;
    log_warning("the hand-over to the shard on seat %u ends: %s", target->seat, why);
    hang_up(target);
}

static void on_hello(struct target *target, const struct handover_message *message)
{
    struct ctx *ctx = target->sender->ctx;
    target->greeted = true;
    target->greeted_at = ctx_now(ctx);
    target->at = message->heard;
    /* What shards have said that ended before the target was there is never heard by it. */
    mesh_mark(ctx->mesh);
}

static void on_taken(struct target *target, const struct handover_message *message)
{
    if (!answers_batch(target, message)) {
        sender_lose(target, "it answers what was not asked");
        return;
    }
    if (message->full) {
        log_warning("the shard on seat %u has no room for connections", target->seat);
        target->full_until = ctx_now(target->sender->ctx) + SENDER_FULL_MS;
    }
    sender_settle_batch(target, message->taken, !message->full);
}

static void on_target_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct target *target = poll->data;
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    while (target->open) {
        int r = handover_receive(target->fd, &message, fds, &nfds);
        if (r == -EAGAIN)
            return;
        if (r < 0)
            sender_lose(target, r == -EPIPE ? "it is gone" : log_error_text(r));
        else if (message.type == HANDOVER_HELLO)
            on_hello(target, &message);
        else if (message.type == HANDOVER_TAKEN)
            on_taken(target, &message);
        else
            sender_lose(target, "unexpected message");
    }
}

int sender_add(struct sender *sender, unsigned seat, int fd)
{
    struct target *target = NULL;
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        if (sender->targets[i].used && sender->targets[i].seat == seat)
            sender_lose(&sender->targets[i], "there is another one");
        else if (!sender->targets[i].used && target == NULL)
            target = &sender->targets[i];
    }
    int r = target == NULL ? -ENOSPC : 0;
    if (r == 0) {
        *target = (struct target){
            .sender = sender, .fd = fd, .seat = seat, .asked_at = ctx_now(sender->ctx)};
        r = loop_poll_init(&sender->ctx->loop, &target->poll, fd);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    target->used = true;
    target->open = true;
    target->poll.data = target;
    CHECK(uv_poll_start(&target->poll, UV_READABLE, on_target_readable) == 0);
    return 0;
}

/* Whether a target's loop turns, as far as can be seen: one that hangs is not waited for. */
static bool lives(struct target *target)
{
    const struct ctx *ctx = target->sender->ctx;
    uint64_t now = ctx_now(ctx);
    uint64_t beat_at = share_pulse(ctx->share, target->seat, &target->pulse, now);
    return now - MAX(target->asked_at, beat_at) < SENDER_SLOW_MS;
}

bool sender_overloaded(struct sender *sender)
{
    bool behind = false;
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        struct target *target = &sender->targets[i];
        if (!target->open || (target->greeted && !target->sent))
            continue;
        if (!lives(target))
            return false;
        behind |= target->sent && ctx_now(sender->ctx) - target->asked_at >= BEHIND_MS;
    }
    return behind || (any_sent(sender) && journal_size(&sender->ctx->mesh->journal) > JOURNAL_MAX);
}

static void tell_how_far(struct sender *sender)
{
    struct handover_message message = {0};
    mesh_positions(sender->ctx->mesh, &message.heard);
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        struct target *target = &sender->targets[i];
        if (!target->open || !target->ready || target->sent)
            continue;
        int r = handover_send(target->fd, HANDOVER_HEARD, &message, NULL, 0);
        if (r < 0 && r != -EAGAIN)
            sender_lose(target, log_error_text(r));
    }
}

/* Closes as many clients that no target takes as are due: else all would connect again at once. */
static void close_some(struct sender *sender)
{
    size_t n = 0;
    uint64_t now = ctx_now(sender->ctx);
    list_for_each (node, &sender->kept)
        n++;
    uint64_t ticks = now < sender->close_until ? (sender->close_until - now) / SENDER_TICK_MS + 1
                                               : 1;
    size_t due = (n + ticks - 1) / ticks;
    list_for_each_safe (node, &sender->kept) {
        struct client *client = container_of(node, struct client, node);
        if (due-- == 0)
            return;
        list_remove(&client->node);
        list_append(sender->all, &client->node);
        client_drain(client);
        client_touch(client);
    }
}

static void touch_all(const struct sender *sender)
{
    list_for_each_safe (node, sender->all)
        client_touch(container_of(node, struct client, node));
}

void sender_timeout(struct wheel_timer *timer)
{
    struct sender *sender = container_of(timer, struct sender, timer);
    bool pause = sender->ticks++ % PAUSE_PERIOD < PAUSE_TICKS;
    if (pause != sender->ctx->requests_paused) {
        sender->ctx->requests_paused = pause;
        touch_all(sender);
    }
    tell_how_far(sender);
    close_some(sender);
    ctx_arm(sender->ctx, &sender->timer, SENDER_TICK_MS);
}

void sender_start(struct sender *sender, struct list *all, uint64_t drain_ms, bool has_targets)
{
    sender->all = all;
    sender->has_targets = has_targets;
    sender->started = ctx_now(sender->ctx);
    sender->close_until = sender->started + drain_ms * (CLOSE_PARTS - 1) / CLOSE_PARTS;
    sender->ctx->leaving = true;
    sender->ctx->requests_paused = true;
    touch_all(sender);
    ctx_arm(sender->ctx, &sender->timer, SENDER_TICK_MS);
}

void sender_shut(struct sender *sender)
{
    if (sender->ctx->leaving)
        log_info("%zu connections were handed over in %llu ms", sender->given,
            (unsigned long long)(ctx_now(sender->ctx) - sender->started));
    sender->ctx->leaving = false;
    sender->ctx->requests_paused = false;
    wheel_disarm(&sender->timer);
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        if (sender->targets[i].open)
            hang_up(&sender->targets[i]);
    }
    while (!list_empty(&sender->ctx->idle) || !list_empty(&sender->kept)) {
        struct list *from = list_empty(&sender->kept) ? &sender->ctx->idle : &sender->kept;
        struct client *client = list_first(from, struct client, node);
        list_remove(&client->node);
        list_append(sender->all, &client->node);
    }
}
