/*
 * sender_turn() begins a round when every target waits for connections: the idle clients are dealt
 * out, each to the target that has got the fewest from here; frozen, saved, and sent, one batch to
 * each target. A batch has a most of connections and of bytes; clients that find no room go with
 * the next round.
 *
 * Where the kernel takes no more descriptors for now (ETOOMANYREFS: it counts those that are on
 * their way, of all shards together), no batch is sent for a moment.
 */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/handover/sender_internal.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"

enum {
    /* Bytes of states in a batch of more than one client: a round is to be short, since its clients
     * are not served meanwhile, and what is in it is in memory twice. */
    BATCH_BYTES = 4 << 20,
    /* A target gets fewer connections where it has more than the least of all targets and this.
     * Smaller differences may be made by other old shards that give at the same time. */
    UNEVEN = 1024,
    WRITE_BYTES = 256 << 10, /* of states that are written to the memfd at a time */
};

/* Whether a target is to answer, and does not. */
static bool is_slow(const struct target *target)
{
    uint64_t now = ctx_now(target->sender->ctx);
    return (!target->greeted || target->sent) && now - target->asked_at >= SENDER_SLOW_MS;
}

/* Whether a round can begin: every target, but for those that hang, waits for connections. */
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
            target->greeted_at = now; /* what siblings have said lies here: they are not late */
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

/* The targets of a round, in the order in which they are asked. */
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

/* The target of the next client, one of so many bytes: the one that has got the fewest, of those
 * that may have it, and whose batch has room for it. NULL: none has. */
static struct target *next_target(const struct round *round, size_t bytes, bool keys)
{
    struct target *least = NULL;
    for (size_t i = 0; i < round->n; i++) {
        struct target *target = round->targets[i];
        if (batch_has_room(target, bytes) && (!keys || target->takes_keys) &&
            (least == NULL || has_got(target) < has_got(least)))
            least = target;
    }
    return least;
}

/* Whether a client with keys may go to any target of the round. */
static bool takes_keys(const struct round *round)
{
    for (size_t i = 0; i < round->n; i++) {
        if (round->targets[i]->takes_keys)
            return true;
    }
    return false;
}

static void keep_key(struct sender *sender, struct client *client, const struct positions *now)
{
    static struct log_limit limit;
    log_limited(&limit, ctx_now(sender->ctx), LOG_WARNING,
        "the new shards are of a version of the program that takes no connections with TLS: these "
        "are closed in the course of the drain time");
    sender_keep(sender, client, now);
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
    struct buf states = {.secret = target->has_keys};
    int fd = memfd_create("frontd-clients", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    for (uint32_t i = 0; r == 0 && i < target->count; i++) {
        r = put_state(&states, target->clients[i]);
        if (r == 0 && (buf_len(&states) >= WRITE_BYTES || i + 1 == target->count))
            r = write_states(fd, &states);
    }
    if (target->has_keys)
        buf_wipe(&states);
    else
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
        .batch = ++target->batch,
        .count = target->count,
        .flags = target->has_keys ? HANDOVER_TWICE : 0,
        .heard = target->at,
    };
    int r = handover_send(target->fd, HANDOVER_BATCH, &message, fds, target->count + 1);
    if (target->has_keys)
        target->states = fds[0];
    else
        close(fds[0]);
    return r;
}

/* Deals the idle clients out. */
static void deal_out(struct sender *sender, struct round *round, const struct positions *now)
{
    while (!list_empty(&sender->ctx->idle)) {
        struct client *client = list_first(&sender->ctx->idle, struct client, node);
        list_remove(&client->node);
        if (!client_can_move(client)) { /* not any more: a request came while it waited */
            list_append(sender->all, &client->node);
            continue;
        }
        size_t bytes = client_state_size(client);
        bool keys = client_has_keys(client);
        struct target *target = next_target(round, bytes, keys);
        if (target == NULL && keys && !takes_keys(round)) {
            keep_key(sender, client, now);
            continue;
        }
        if (target == NULL) {
            list_append(&sender->ctx->idle, &client->node);
            break;
        }
        client_freeze(client);
        target->clients[target->count++] = client;
        target->bytes += bytes;
        target->has_keys |= keys;
    }
}

/* A batch could not be sent, for that reason (-errno): its clients go with a later round. */
static void recall_batch(struct target *target, int why)
{
    static const uint8_t none[HANDOVER_BITS];
    uint64_t now = ctx_now(target->sender->ctx);
    switch (-why) {
    case ETOOMANYREFS: target->sender->crowded_until = now + SENDER_TICK_MS; break;
    case EAGAIN:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        log_warning("connections cannot be handed over for a while: %s", log_error_text(why));
        target->full_until = now + SENDER_FULL_MS;
        break;
    default: sender_lose(target, log_error_text(why)); return;
    }
    sender_settle_batch(target, none, false);
}

static void begin_round(struct sender *sender)
{
    struct round round;
    struct positions now;
    int r = 0;
    mesh_positions(sender->ctx->mesh, &now);
    round_init(&round, sender);
    deal_out(sender, &round, &now);
    journal_record(&sender->ctx->mesh->journal, JOURNAL_SENDER, true);
    for (size_t i = 0; i < round.n; i++) {
        struct target *target = round.targets[i];
        if (target->count == 0)
            continue;
        target->sent = true;
        target->asked_at = ctx_now(sender->ctx);
        target->at = now;
        if (r != -ETOOMANYREFS) /* which goes for all targets */
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
        if (client_can_move(client))
            sender_keep(sender, client, &now);
        else
            list_append(sender->all, &client->node);
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
