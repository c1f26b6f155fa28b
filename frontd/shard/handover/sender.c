/*
 * sender_start() touches every client; each that is idle at the end of a turn is in ctx->idle then,
 * and goes with the next round (sender_round.c), which sends a batch to each target. TAKEN comes
 * back from each: the clients that were taken are released, the others stay here, and are closed in
 * the course of the drain time. When all targets have answered, the next round begins.
 *
 * A batch comes to another end where
 * - the target ends, or breaks the order of messages: its clients thaw, and go with the next round;
 * - the target has no room (TAKEN with FULL): the same, and it is left out for a while;
 * - this side breaks off: from then on TAKEN cannot be sent, and one that lies there counts.
 * So a connection never has two owners. sender_settle.c says how those that have keys come to an
 * end.
 *
 * Pushes for a frozen client go by. They are in the journal, and are given to it by the shard that
 * has it afterwards: each batch carries how far every shard had been heard here at the freeze.
 *
 * A busy client, which always has some call in progress, becomes idle because requests are paused
 * now and then for a moment (ctx->requests_paused).
 */

#include "frontd/shard/handover/sender.h"

#include <errno.h>
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

bool sender_has_clients(const struct sender *sender)
{
    return sender_any_sent(sender) || !list_empty(&sender->ctx->idle) || !list_empty(&sender->kept);
}

/* Whether a message is the answer to the batch that is on its way. */
static bool answers_batch(const struct target *target, const struct handover_message *message)
{
    return message->type == HANDOVER_TAKEN && target->sent && message->batch == target->batch &&
           message->count == target->count;
}

/* How the talk with a target ends. */
enum ending {
    ENDING_CLEAR, /* it has the batch where its answer lies there already */
    ENDING_WRONG, /* it breaks the order of messages: what it thinks it has is not known */
};

/* Looks for the answer among what the target has said last. Returns how the talk ends then. */
static enum ending find_answer(struct target *target, enum ending ending)
{
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    while (target->sent && !target->answered) {
        int r = handover_receive(target->fd, &message, fds, &nfds);
        if (r == -EAGAIN || r == -EPIPE)
            break;
        if (r < 0)
            return ENDING_WRONG; /* the answer may lie behind it */
        if (answers_batch(target, &message))
            sender_note_answer(target, &message);
        else if (message.type != HANDOVER_HELLO)
            ending = ENDING_WRONG;
        fdpass_close(fds, nfds);
    }
    return ending;
}

/* Ends the talk with a target. */
static void hang_up(struct target *target, enum ending ending)
{
    shutdown(target->fd, SHUT_RD); /* from here on an answer cannot be sent: it fails over there */
    ending = find_answer(target, ending);
    target->open = false;
    target->ready = false;
    uv_close((uv_handle_t *)&target->poll, on_target_closed);
    sender_settle_at_end(target, ending == ENDING_WRONG);
}

static void lose(struct target *target, const char *why, enum ending ending)
{
    if (!target->open)
        return;
    log_warning("the hand-over to the shard on seat %u ends: %s", target->seat, why);
    hang_up(target, ending);
}

void sender_lose(struct target *target, const char *why)
{
    lose(target, why, ENDING_CLEAR);
}

static void on_hello(struct target *target, const struct handover_message *message)
{
    struct ctx *ctx = target->sender->ctx;
    target->greeted = true;
    target->takes_keys = message->flags & HANDOVER_TWICE;
    target->greeted_at = ctx_now(ctx);
    target->at = message->heard;
    /* What shards have said that ended before the target was there is never heard by it. */
    mesh_mark(ctx->mesh);
}

static void on_target_event(uv_poll_t *poll, int status, int events);

static void watch(struct target *target, int events)
{
    CHECK(uv_poll_start(&target->poll, events, on_target_event) == 0);
}

/* Settles the batch that was answered, or is called again when the socket has room. */
static void settle(struct target *target)
{
    int r = sender_settle_answer(target);
    if (r == -EAGAIN)
        watch(target, UV_READABLE | UV_WRITABLE);
    else if (r < 0)
        sender_lose(target, log_error_text(r));
}

static void on_taken(struct target *target, const struct handover_message *message)
{
    if (!answers_batch(target, message)) {
        lose(target, "it answers what was not asked", ENDING_WRONG);
        return;
    }
    if (message->flags & HANDOVER_FULL) {
        log_warning("the shard on seat %u has no room for connections", target->seat);
        target->full_until = ctx_now(target->sender->ctx) + SENDER_FULL_MS;
    }
    sender_note_answer(target, message);
    settle(target);
}

static void on_target_event(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct target *target = poll->data;
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    if (target->answered) {
        watch(target, UV_READABLE);
        settle(target);
    }
    while (target->open) {
        int r = handover_receive(target->fd, &message, fds, &nfds);
        if (r == -EAGAIN)
            return;
        if (r == -EPIPE)
            sender_lose(target, "it is gone");
        else if (r < 0)
            lose(target, log_error_text(r), ENDING_WRONG);
        else if (message.type == HANDOVER_HELLO)
            on_hello(target, &message);
        else if (message.type == HANDOVER_TAKEN)
            on_taken(target, &message);
        else
            lose(target, "unexpected message", ENDING_WRONG);
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
        *target = (struct target){.sender = sender,
            .fd = fd,
            .seat = seat,
            .states = -1,
            .asked_at = ctx_now(sender->ctx)};
        r = loop_poll_init(&sender->ctx->loop, &target->poll, fd);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    target->used = true;
    target->open = true;
    target->poll.data = target;
    watch(target, UV_READABLE);
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
    return behind ||
           (sender_any_sent(sender) && journal_size(&sender->ctx->mesh->journal) > JOURNAL_MAX);
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
            hang_up(&sender->targets[i], ENDING_CLEAR);
    }
    while (!list_empty(&sender->ctx->idle) || !list_empty(&sender->kept)) {
        struct list *from = list_empty(&sender->kept) ? &sender->ctx->idle : &sender->kept;
        struct client *client = list_first(from, struct client, node);
        list_remove(&client->node);
        list_append(sender->all, &client->node);
    }
}
