/*
 * give_start() touches every client; each that is quiet at the end of a turn is in ctx->quiet then,
 * and goes with the next round: the quiet ones are dealt out to the new shards, each to the one
 * that has got the fewest from here, frozen, saved, and sent, one batch to each new shard, of so
 * many connections and bytes at most. TAKEN comes back from each: those that were taken are let go
 * of, the others are kept here, and are closed in the course of the drain time. When all have
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
 * Busy clients: now and then their reading is paused for a moment (ctx->hush), so that one which
 * always has some call in progress becomes quiet.
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
#include "frontd/shard/handover/message.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/system/loop.h"

enum {
    TICK_MS = 50,
    HUSH_TICKS = 2, /* of HUSH_PERIOD ticks, those in which busy clients are not read */
    HUSH_PERIOD = 20,
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

/* A new shard. */
struct target {
    uv_poll_t poll;
    int fd;
    unsigned seat;
    bool used;
    bool open;
    bool ready;               /* its HELLO has come, and we have heard what it says it has */
    bool greeted;             /* its HELLO has come */
    bool sent;                /* a batch is on its way */
    uint64_t greeted_at;      /* ms */
    struct share_pulse pulse; /* of its seat */
    uint64_t asked_at;   /* ms: it is to answer since: its socket came, or the last batch went */
    uint64_t full_until; /* ms */
    uint64_t given;      /* clients that it has taken */
    uint64_t load;       /* of its connections when the round began, those that count: see UNEVEN */
    uint32_t batch;      /* number of the last one */
    uint32_t count;      /* clients in it */
    size_t bytes;        /* of their states, about */
    struct positions at; /* greeted: what it has heard; sent: what we had when it was frozen */
    struct client *clients[HANDOVER_BATCH_MAX];
};

static struct {
    struct ctx *ctx;
    struct list *all;
    struct target targets[CONF_SHARDS_MAX];
    struct wheel_timer timer;
    struct list kept;       /* of clients that nobody takes, not closed yet */
    uint64_t close_until;   /* ms: the last of them is to be closed by then */
    bool heirs;             /* there may be new shards that take connections */
    unsigned first;         /* target that is asked first in the next round */
    uint64_t crowded_until; /* ms: too many descriptors are on their way */
    unsigned ticks;
    size_t given;
    uint64_t started; /* ms */
} give;

void give_init(struct ctx *ctx)
{
    memset(&give, 0, sizeof(give));
    give.ctx = ctx;
    list_init(&give.kept);
    wheel_timer_init(&give.timer, TIMER_GIVE);
}

static void on_closed(uv_handle_t *handle)
{
    struct target *target = handle->data;
    close(target->fd);
    target->used = false;
}

static bool any_sent(void)
{
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        if (give.targets[i].sent)
            return true;
    }
    return false;
}

bool give_has_clients(void)
{
    return any_sent() || !list_empty(&give.ctx->quiet) || !list_empty(&give.kept);
}

/*
 * They were not taken: they live on here, and are given the pushes that went by meanwhile.
 * for_good: nobody will take them.
 */
static void take_back(
    struct client **clients, size_t n, const struct positions *since, bool for_good)
{
    for (size_t i = 0; i < n; i++) {
        if (for_good)
            client_keep(clients[i]);
        else
            client_thaw(clients[i]);
        list_append(for_good ? &give.kept : give.all, &clients[i]->node);
        clients[i]->arriving = true;
    }
    journal_replay(&give.ctx->mesh->journal, since, push_replay, give.ctx);
    for (size_t i = 0; i < n; i++)
        clients[i]->arriving = false;
}

/* The batch has been answered, or never will be. taken: a bit for each that is the other's now. */
static void settle_batch(struct target *target, const uint8_t *taken, bool for_good)
{
    struct client *back[HANDOVER_BATCH_MAX];
    size_t nback = 0;
    for (uint32_t i = 0; i < target->count; i++) {
        struct client *client = target->clients[i];
        if (taken[i / 8] >> (i % 8) & 1) {
            give.given++;
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
        fanout_finish(give.ctx);
    take_back(back, nback, &target->at, for_good);
    if (for_good && nback > 0)
        log_warning("%zu connections cannot go to the new shards, they are closed in the course "
                    "of the drain time",
            nback);
    if (!any_sent())
        journal_record(&give.ctx->mesh->journal, JOURNAL_GIVE, false);
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
    uv_close((uv_handle_t *)&target->poll, on_closed);
    if (target->sent)
        settle_batch(target, none, false);
}

static void lose(struct target *target, const char *why)
{
    if (!target->open)
        return;
    log_warning("the hand-over to the shard on seat %u ends: %s", target->seat, why);
    hang_up(target);
}

static void on_hello(struct target *target, const struct handover_message *message)
{
    target->greeted = true;
    target->greeted_at = ctx_now(give.ctx);
    target->at = message->heard;
    mesh_mark(give.ctx->mesh); /* of those who have ended before it was there, it hears nothing */
}

static void on_taken(struct target *target, const struct handover_message *message)
{
    if (!answers_batch(target, message)) {
        lose(target, "it answers what was not asked");
        return;
    }
    if (message->full) {
        log_warning("the shard on seat %u has no room for connections", target->seat);
        target->full_until = ctx_now(give.ctx) + FULL_MS;
    }
    settle_batch(target, message->taken, !message->full);
}

static void on_readable(uv_poll_t *poll, int status, int events)
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
            lose(target, r == -EPIPE ? "it is gone" : log_error_text(r));
        else if (message.type == HANDOVER_HELLO)
            on_hello(target, &message);
        else if (message.type == HANDOVER_TAKEN)
            on_taken(target, &message);
        else
            lose(target, "unexpected message");
    }
}

int give_add(unsigned seat, int fd)
{
    struct target *target = NULL;
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        if (give.targets[i].used && give.targets[i].seat == seat)
            lose(&give.targets[i], "there is another one");
        else if (!give.targets[i].used && target == NULL)
            target = &give.targets[i];
    }
    int r = target == NULL ? -ENOSPC : 0;
    if (r == 0) {
        *target = (struct target){.fd = fd, .seat = seat, .asked_at = ctx_now(give.ctx)};
        r = loop_poll_init(&give.ctx->loop, &target->poll, fd);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    target->used = true;
    target->open = true;
    target->poll.data = target;
    CHECK(uv_poll_start(&target->poll, UV_READABLE, on_readable) == 0);
    return 0;
}

/* Whether it is to answer, and does not. */
static bool is_slow(const struct target *target)
{
    return (!target->greeted || target->sent) && ctx_now(give.ctx) - target->asked_at >= SLOW_MS;
}

/* Whether its loop turns, as far as can be seen: one that hangs is not waited for. */
static bool lives(struct target *target)
{
    uint64_t now = ctx_now(give.ctx);
    uint64_t beat_at = share_pulse(give.ctx->share, target->seat, &target->pulse, now);
    return now - MAX(target->asked_at, beat_at) < SLOW_MS;
}

bool give_overloaded(void)
{
    bool behind = false;
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        struct target *target = &give.targets[i];
        if (!target->open || (target->greeted && !target->sent))
            continue;
        if (!lives(target))
            return false;
        behind |= target->sent && ctx_now(give.ctx) - target->asked_at >= BEHIND_MS;
    }
    return behind || (any_sent() && journal_size(&give.ctx->mesh->journal) > JOURNAL_MAX);
}

/* Whether a round can begin: every new shard that is there, but for those that hang, waits for
 * connections. */
static bool ready_for_round(void)
{
    bool any = false;
    uint64_t now = ctx_now(give.ctx);
    if (now < give.crowded_until)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        struct target *target = &give.targets[i];
        if (!target->open || is_slow(target))
            continue;
        if (!target->greeted || target->sent)
            return false;
        if (!target->ready && mesh_behind(give.ctx->mesh))
            target->greeted_at = now; /* we have not got round to it yet */
        if (!target->ready)
            target->ready = (mesh_past_mark(give.ctx->mesh) &&
                                mesh_has_heard(give.ctx->mesh, &target->at)) ||
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

static void round_init(struct round *round)
{
    uint64_t now = ctx_now(give.ctx);
    uint64_t least = UINT64_MAX;
    round->n = 0;
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        struct target *target = &give.targets[(give.first + i) % ARRAY_LEN(give.targets)];
        if (!target->open || !target->ready || target->sent || now < target->full_until)
            continue;
        target->load = share_connections(give.ctx->share, target->seat);
        least = MIN(least, target->load);
        round->targets[round->n++] = target;
    }
    for (size_t i = 0; i < round->n; i++) {
        struct target *target = round->targets[i];
        target->load = target->load > least + UNEVEN ? target->load - least - UNEVEN : 0;
    }
    if (round->n > 0)
        give.first = (unsigned)(round->targets[0] - give.targets) + 1;
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

/* Deals the quiet clients out. */
static void deal(struct round *round)
{
    while (!list_empty(&give.ctx->quiet)) {
        struct client *client = list_first(&give.ctx->quiet, struct client, node);
        list_remove(&client->node);
        if (!client_can_move(client)) { /* not any more: a request came while it waited */
            list_append(give.all, &client->node);
            continue;
        }
        size_t bytes = client_state_size(client);
        struct target *target = next_target(round, bytes);
        if (target == NULL) {
            list_append(&give.ctx->quiet, &client->node);
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
    uint64_t now = ctx_now(give.ctx);
    switch (-why) {
    case ETOOMANYREFS: give.crowded_until = now + TICK_MS; break;
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        log_warning("connections cannot be handed over for a while: %s", log_error_text(why));
        target->full_until = now + FULL_MS;
        break;
    default: lose(target, log_error_text(why)); return;
    }
    settle_batch(target, none, false);
}

static void begin_round(void)
{
    struct round round;
    struct positions now;
    int r = 0;
    mesh_positions(give.ctx->mesh, &now);
    round_init(&round);
    deal(&round);
    journal_record(&give.ctx->mesh->journal, JOURNAL_GIVE, true);
    for (size_t i = 0; i < round.n; i++) {
        struct target *target = round.targets[i];
        if (target->count == 0)
            continue;
        target->sent = true;
        target->asked_at = ctx_now(give.ctx);
        target->at = now;
        if (r != -ETOOMANYREFS) /* else there is no use in trying the others */
            r = send_batch(target);
        if (r < 0)
            recall_batch(target, r);
    }
}

/* There is nobody to whom the quiet clients could go. */
static void keep_quiet_ones(void)
{
    struct positions now;
    mesh_positions(give.ctx->mesh, &now);
    while (!list_empty(&give.ctx->quiet)) {
        struct client *client = list_first(&give.ctx->quiet, struct client, node);
        list_remove(&client->node);
        if (client_can_move(client)) {
            client_freeze(client);
            take_back(&client, 1, &now, true);
        } else {
            list_append(give.all, &client->node);
        }
    }
}

void give_prepare(void)
{
    if (give.ctx->leaving && give.heirs && ready_for_round())
        fanout_finish(give.ctx);
}

void give_turn(void)
{
    if (list_empty(&give.ctx->quiet))
        return;
    if (!give.heirs)
        keep_quiet_ones();
    else if (list_empty(&give.ctx->fanouts) && ready_for_round())
        begin_round(); /* else a message that counts as heard is still to come to some of them */
}

static void tell_how_far(void)
{
    struct handover_message message = {0};
    mesh_positions(give.ctx->mesh, &message.heard);
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        struct target *target = &give.targets[i];
        if (!target->open || !target->ready || target->sent)
            continue;
        int r = handover_send(target->fd, HANDOVER_HEARD, &message, NULL, 0);
        if (r < 0 && r != -EAGAIN)
            lose(target, log_error_text(r));
    }
}

/* Closes as many of those that nobody takes as are due, so that they do not all come back at once.
 */
static void close_some(void)
{
    size_t n = 0;
    uint64_t now = ctx_now(give.ctx);
    list_for_each (node, &give.kept)
        n++;
    uint64_t ticks = now < give.close_until ? (give.close_until - now) / TICK_MS + 1 : 1;
    size_t due = (n + ticks - 1) / ticks;
    list_for_each_safe (node, &give.kept) {
        struct client *client = container_of(node, struct client, node);
        if (due-- == 0)
            return;
        list_remove(&client->node);
        list_append(give.all, &client->node);
        client_drain(client);
        client_touch(client);
    }
}

static void touch_all(void)
{
    list_for_each_safe (node, give.all)
        client_touch(container_of(node, struct client, node));
}

void give_timeout(struct wheel_timer *timer)
{
    (void)timer;
    bool hush = give.ticks++ % HUSH_PERIOD < HUSH_TICKS;
    if (hush != give.ctx->hush) {
        give.ctx->hush = hush;
        touch_all();
    }
    tell_how_far();
    close_some();
    ctx_arm(give.ctx, &give.timer, TICK_MS);
}

void give_start(struct list *all, uint64_t drain_ms, bool heirs)
{
    give.all = all;
    give.heirs = heirs;
    give.started = ctx_now(give.ctx);
    give.close_until = give.started + drain_ms * (CLOSE_PARTS - 1) / CLOSE_PARTS;
    give.ctx->leaving = true;
    give.ctx->hush = true;
    touch_all();
    ctx_arm(give.ctx, &give.timer, TICK_MS);
}

void give_shut(void)
{
    if (give.ctx->leaving)
        log_info("%zu connections were handed over in %llu ms", give.given,
            (unsigned long long)(ctx_now(give.ctx) - give.started));
    give.ctx->leaving = false;
    give.ctx->hush = false;
    wheel_disarm(&give.timer);
    for (size_t i = 0; i < ARRAY_LEN(give.targets); i++) {
        if (give.targets[i].open)
            hang_up(&give.targets[i]);
    }
    while (!list_empty(&give.ctx->quiet) || !list_empty(&give.kept)) {
        struct list *from = list_empty(&give.kept) ? &give.ctx->quiet : &give.kept;
        struct client *client = list_first(from, struct client, node);
        list_remove(&client->node);
        list_append(give.all, &client->node);
    }
}
