/*
 * sender_start() touches every client; each that is idle at the end of a turn is in ctx->idle
 * then, and goes with the next round: the idle ones are dealt out to the new shards, each to the
 * one that has got the fewest from here, frozen, saved, and sent, one batch to each new shard, of
 * so many connections and bytes at most. TAKEN comes back from each: those that were taken are let
 * go of, the others are kept here, and are closed in the course of the drain time. When all have
 * answered, the next round begins.
 *
 * A new shard that ends, or says nonsense, has not taken its batch: its clients thaw and go with
 * the next round. One without room (TAKEN with `full`) is left out for a while. Where the kernel
 * takes no more descriptors for now (ETOOMANYREFS: it counts those that are on their way, of all
 * shards together), nobody is sent any for a moment. Where it is this side that breaks off, no
 * TAKEN can come from then on, and one that has come counts: a connection never has two owners.
 *
 * Pushes for a frozen client go by; they are in the journal and are given to it by whoever has it
 * afterwards, so each batch carries how far we had heard every shard when it was frozen.
 *
 * Busy clients: now and then their reading is paused for a moment (ctx->requests_paused), so that
 * one which always has some call in progress becomes idle.
 */

#include "frontd/shard/handover/sender.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/handover/message.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/system/loop.h"

enum {
    TICK_MS = 50,
    PAUSE_TICKS = 2, /* of PAUSE_PERIOD ticks, those in which busy clients are not read */
    PAUSE_PERIOD = 20,
    FULL_MS = 500,  /* how long a shard that had no room is left out */
    BEHIND_MS = 50, /* a batch is answered sooner where the new shard is not behind */
    SLOW_MS = 1000, /* who says nothing for so long is not waited for by the others */
    /* Bytes of states in a batch of more than one client: a round is to be short, since others wait
     * meanwhile, and what is in it is in memory twice. */
    BATCH_BYTES = 4 << 20,
    /* So many connections more than another one a new shard may have without getting fewer for it:
     * what other old shards give it at the same time is not known. */
    UNEVEN = 1024,
    WRITE_BYTES = 256 << 10, /* of states that are written to the memfd at a time */
    CLOSE_PARTS = 4,         /* who is not taken is closed within 3 of 4 parts of the drain time */
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

/*
 * They were not taken: they live on here, and are given the pushes that went by meanwhile.
 * for_good: nobody will take them.
 */
static void take_back(struct sender *sender, struct client **clients, size_t n,
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

/* The batch has been answered, or never will be. taken: a bit for each that is the other's now. */
static void settle_batch(struct target *target, const uint8_t *taken, bool for_good)
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
    /* What is on its way passes them by as long as they are frozen, and is in the journal. */
    if (nback > 0)
        fanout_finish(sender->ctx);
    take_back(sender, back, nback, &target->at, for_good);
    if (for_good && nback > 0)
        log_warning("%zu connections cannot go to the new shards, they are closed in the course "
                    "of the drain time",
            nback);
    if (!any_sent(sender))
        journal_record(&sender->ctx->mesh->journal, JOURNAL_SENDER, false);
}

/* Whether that is the answer to the batch that is on its way. */
static bool answers_batch(const struct target *target, const struct handover_message *message)
{
    return message->type == HANDOVER_TAKEN && target->sent && message->batch == target->batch &&
           message->count == target->count;
}

/* Nothing more is said. What is on its way was taken if its answer is here. */
static void hang_up(struct target *target)
{
    static const uint8_t none[(HANDOVER_BATCH_MAX + 7) / 8];
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    shutdown(target->fd, SHUT_RD); /* from here on the other side cannot answer, and knows it */
    while (target->sent && handover_receive(target->fd, &message, fds, &nfds) == 0) {
        if (answers_batch(target, &message))
            settle_batch(target, message.taken, false);
        else
            fdpass_close(fds, nfds);
    }
    target->open = false;
    target->ready = false;
    uv_close((uv_handle_t *)&target->poll, on_target_closed);
    if (target->sent)
        settle_batch(target, none, false);
}

static void lose_target(struct target *target, const char *why)
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
    mesh_mark(ctx->mesh); /* of those who have ended before it was there, it hears nothing */
}

static void on_taken(struct target *target, const struct handover_message *message)
{
    if (!answers_batch(target, message)) {
        lose_target(target, "it answers what was not asked");
        return;
    }
    if (message->full) {
        log_warning("the shard on seat %u has no room for connections", target->seat);
        target->full_until = ctx_now(target->sender->ctx) + FULL_MS;
    }
    settle_batch(target, message->taken, !message->full);
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
            lose_target(target, r == -EPIPE ? "it is gone" : log_error_text(r));
        else if (message.type == HANDOVER_HELLO)
            on_hello(target, &message);
        else if (message.type == HANDOVER_TAKEN)
            on_taken(target, &message);
        else
            lose_target(target, "unexpected message");
    }
}

int sender_add(struct sender *sender, unsigned seat, int fd)
{
    struct target *target = NULL;
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        if (sender->targets[i].used && sender->targets[i].seat == seat)
            lose_target(&sender->targets[i], "there is another one");
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

/* Whether it is to answer, and does not. */
static bool is_slow(const struct target *target)
{
    uint64_t now = ctx_now(target->sender->ctx);
    return (!target->greeted || target->sent) && now - target->asked_at >= SLOW_MS;
}

/* Whether its loop turns, as far as can be seen: one that hangs is not waited for. */
static bool lives(struct target *target)
{
    const struct ctx *ctx = target->sender->ctx;
    uint64_t now = ctx_now(ctx);
    uint64_t beat_at = share_pulse(ctx->share, target->seat, &target->pulse, now);
    return now - MAX(target->asked_at, beat_at) < SLOW_MS;
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

/* Whether a round can begin: every new shard that is there, but for those that hang, waits for
 * connections. */
static bool ready_for_round(struct sender *sender)
{
    bool any = false;
    uint64_t now = ctx_now(sender->ctx);
    if (now < sender->crowded_until)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        struct target *target = &sender->targets[i];
        if (!target->open || is_slow(target))
            continue;
        if (!target->greeted || target->sent)
            return false;
        if (!target->ready && mesh_behind(sender->ctx->mesh))
            target->greeted_at = now; /* we have not got round to it yet */
        if (!target->ready)
            target->ready = (mesh_past_mark(sender->ctx->mesh) &&
                                mesh_has_heard(sender->ctx->mesh, &target->at)) ||
                            now - target->greeted_at >= HANDOVER_WAIT_MS;
        if (!target->ready)
            return false;
        any |= now >= target->full_until;
    }
    return any;
}

/* The new shards of a round, in the order in which they are asked. */
struct round {
    struct target *targets[CONF_SHARDS_MAX];
    size_t n;
};

static void round_init(struct round *round, struct sender *sender)
{
    uint64_t now = ctx_now(sender->ctx);
    uint64_t least = UINT64_MAX;
    round->n = 0;
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        struct target *target = &sender->targets[(sender->first + i) % ARRAY_LEN(sender->targets)];
        if (!target->open || !target->ready || target->sent || now < target->full_until)
            continue;
        target->load = share_connections(sender->ctx->share, target->seat);
        least = MIN(least, target->load);
        round->targets[round->n++] = target;
    }
    for (size_t i = 0; i < round->n; i++) {
        struct target *target = round->targets[i];
        target->load = target->load > least + UNEVEN ? target->load - least - UNEVEN : 0;
    }
    if (round->n > 0)
        sender->first = (unsigned)(round->targets[0] - sender->targets) + 1;
}

static bool batch_has_room(const struct target *target, size_t bytes)
{
    return target->count == 0 ||
           (target->count < HANDOVER_BATCH_MAX && target->bytes + bytes <= BATCH_BYTES);
}

static uint64_t has_got(const struct target *target)
{
    return target->given + target->count + target->load;
}

/* Who takes the next client, one of so many bytes: of those whose batch has room for it the one
 * that has got the fewest, or NULL. */
static struct target *next_target(const struct round *round, size_t bytes)
{
    struct target *least = NULL;
    for (size_t i = 0; i < round->n; i++) {
        struct target *target = round->targets[i];
        if (batch_has_room(target, bytes) && (least == NULL || has_got(target) < has_got(least)))
            least = target;
    }
    return least;
}

static int put_state(struct buf *states, const struct client *client)
{
    static const uint8_t zero[4];
    size_t at = buf_len(states);
    if (buf_append(states, zero, sizeof(zero)) < 0 || client_save(client, states) < 0) {
        buf_truncate(states, at);
        return -ENOMEM;
    }
    uint32_t n = (uint32_t)(buf_len(states) - at - sizeof(zero));
    for (unsigned i = 0; i < 4; i++)
        buf_data(states)[at + i] = (char)(n >> 8 * i);
    return 0;
}

/* Writes the states to the memfd, and empties them. Returns 0 or -errno. */
static int write_states(int fd, struct buf *states)
{
    size_t n = buf_len(states);
    for (size_t at = 0; at < n;) {
        ssize_t written = write(fd, buf_data(states) + at, n - at);
        if (written < 0 && errno != EINTR)
            return -errno;
        at += written < 0 ? 0 : (size_t)written;
    }
    buf_truncate(states, 0);
    return 0;
}

/* The memfd with the states of a batch, which are never all in this process's memory a second time.
 * Returns it, or -errno. */
static int memfd_of(const struct target *target)
{
    struct buf states = {0};
    int fd = memfd_create("frontd-clients", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    for (uint32_t i = 0; r == 0 && i < target->count; i++) {
        r = put_state(&states, target->clients[i]);
        if (r == 0 && (buf_len(&states) >= WRITE_BYTES || i + 1 == target->count))
            r = write_states(fd, &states);
    }
    buf_deinit(&states);
    if (r < 0 && fd >= 0)
        close(fd);
    return r < 0 ? r : fd;
}

static int send_batch(struct target *target)
{
    int fds[FDPASS_FDS_MAX];
    fds[0] = memfd_of(target);
    if (fds[0] < 0)
        return fds[0];
    for (uint32_t i = 0; i < target->count; i++)
        fds[i + 1] = target->clients[i]->fd;
    struct handover_message message = {
        .batch = ++target->batch, .count = target->count, .heard = target->at};
    int r = handover_send(target->fd, HANDOVER_BATCH, &message, fds, target->count + 1);
    close(fds[0]);
    return r;
}

/* Deals the idle clients out. */
static void deal_out(struct sender *sender, struct round *round)
{
    while (!list_empty(&sender->ctx->idle)) {
        struct client *client = list_first(&sender->ctx->idle, struct client, node);
        list_remove(&client->node);
        if (!client_can_move(client)) { /* not any more: a request came while it waited */
            list_append(sender->all, &client->node);
            continue;
        }
        size_t bytes = client_state_size(client);
        struct target *target = next_target(round, bytes);
        if (target == NULL) {
            list_append(&sender->ctx->idle, &client->node);
            break;
        }
        client_freeze(client);
        target->clients[target->count++] = client;
        target->bytes += bytes;
    }
}

/* A batch that could not be sent, for that reason. */
static void recall_batch(struct target *target, int why)
{
    static const uint8_t none[(HANDOVER_BATCH_MAX + 7) / 8];
    uint64_t now = ctx_now(target->sender->ctx);
    switch (-why) {
    case ETOOMANYREFS: target->sender->crowded_until = now + TICK_MS; break;
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        log_warning("connections cannot be handed over for a while: %s", log_error_text(why));
        target->full_until = now + FULL_MS;
        break;
    default: lose_target(target, log_error_text(why)); return;
    }
    settle_batch(target, none, false);
}

static void begin_round(struct sender *sender)
{
    struct round round;
    struct positions now;
    int r = 0;
    mesh_positions(sender->ctx->mesh, &now);
    round_init(&round, sender);
    deal_out(sender, &round);
    journal_record(&sender->ctx->mesh->journal, JOURNAL_SENDER, true);
    for (size_t i = 0; i < round.n; i++) {
        struct target *target = round.targets[i];
        if (target->count == 0)
            continue;
        target->sent = true;
        target->asked_at = ctx_now(sender->ctx);
        target->at = now;
        if (r != -ETOOMANYREFS) /* else there is no use in trying the others */
            r = send_batch(target);
        if (r < 0)
            recall_batch(target, r);
    }
}

/* There is no new shard to which the idle clients could go. */
static void keep_idle(struct sender *sender)
{
    struct positions now;
    mesh_positions(sender->ctx->mesh, &now);
    while (!list_empty(&sender->ctx->idle)) {
        struct client *client = list_first(&sender->ctx->idle, struct client, node);
        list_remove(&client->node);
        if (client_can_move(client)) {
            client_freeze(client);
            take_back(sender, &client, 1, &now, true);
        } else {
            list_append(sender->all, &client->node);
        }
    }
}

void sender_prepare(struct sender *sender)
{
    if (sender->ctx->leaving && sender->has_targets && ready_for_round(sender))
        fanout_finish(sender->ctx);
}

void sender_turn(struct sender *sender)
{
    if (list_empty(&sender->ctx->idle))
        return;
    if (!sender->has_targets)
        keep_idle(sender);
    else if (list_empty(&sender->ctx->fanouts) && ready_for_round(sender))
        begin_round(
            sender); /* else a message that counts as heard is still to come to some of them */
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
            lose_target(target, log_error_text(r));
    }
}

/* Closes as many of those that nobody takes as are due, so that they do not all come back at once.
 */
static void close_some(struct sender *sender)
{
    size_t n = 0;
    uint64_t now = ctx_now(sender->ctx);
    list_for_each (node, &sender->kept)
        n++;
    uint64_t ticks = now < sender->close_until ? (sender->close_until - now) / TICK_MS + 1 : 1;
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
    ctx_arm(sender->ctx, &sender->timer, TICK_MS);
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
    ctx_arm(sender->ctx, &sender->timer, TICK_MS);
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
