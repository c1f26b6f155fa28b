/*
 * How a batch comes to its end, when TAKEN has come or the talk with its target ends: what was
 * taken is released, the other clients thaw, or are kept.
 *
 * A batch with keys among its connections (message.h) is acknowledged twice: sender_settle_answer()
 * says YOURS, and releases them in the same breath, which wipes their keys. Nothing seals in
 * between: they are frozen. YOURS comes to another end where
 * - the target is gone, or has broken off (EPIPE, ECONNRESET): it never starts what it was not told
 *   to, so all of the batch thaw, as if it had not been taken;
 * - the socket has no room (EAGAIN): nothing else happens to the batch until YOURS is out; where
 *   this side breaks off first, the end of the socket says the same;
 * - it cannot be sent for another reason: they are released and the socket is closed, which says
 *   the same;
 * - this process ends: its keys are gone with it, and the end of the socket says so.
 * Where BATCH itself could not be sent (ETOOMANYREFS, EAGAIN and the like), nothing has left this
 * process: all of the batch thaw (recall_batch()).
 *
 * A target that breaks the order of messages may take what it has for its own at the end of the
 * socket: what it has of such a batch is released, whatever becomes of it.
 */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/handover/sender_internal.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/push/push.h"

static const uint8_t none[HANDOVER_BITS];

bool sender_any_sent(const struct sender *sender)
{
    for (size_t i = 0; i < ARRAY_LEN(sender->targets); i++) {
        if (sender->targets[i].sent)
            return true;
    }
    return false;
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
        client_set_arriving(clients[i], true);
    }
    journal_replay(&sender->ctx->mesh->journal, since, push_replay, sender->ctx);
    for (size_t i = 0; i < n; i++)
        client_set_arriving(clients[i], false);
}

void sender_keep(struct sender *sender, struct client *client, const struct positions *since)
{
    client_freeze(client);
    share_count(client_counts(client)->left_behind, 1);
    sender_take_back(sender, &client, 1, since, true);
}

static void close_states(struct target *target)
{
    if (target->states >= 0)
        close(target->states);
    target->states = -1;
}

/* The states of the batch, keys among them, have been read, and are not to lie in memory. */
static void wipe_states(struct target *target)
{
    static const char zeroes[16384];
    struct stat st;
    if (target->states < 0)
        return;
    off_t size = fstat(target->states, &st) == 0 ? st.st_size : 0;
    ssize_t n = 1;
    for (off_t at = 0; at < size && n > 0; at += n)
        n = pwrite(target->states, zeroes, MIN((size_t)(size - at), sizeof(zeroes)), at);
    close_states(target);
}

void sender_settle_batch(struct target *target, const uint8_t *taken, bool for_good)
{
    struct sender *sender = target->sender;
    close_states(target);
    struct client *back[HANDOVER_BATCH_MAX];
    size_t nback = 0;
    for (uint32_t i = 0; i < target->count; i++) {
        struct client *client = target->clients[i];
        if (taken[i / 8] >> (i % 8) & 1) {
            sender->given++;
            target->given++;
            share_count(&client_counts(client)->departed[target->seat], 1);
            client_release(client);
        } else {
            back[nback++] = client;
        }
    }
    target->sent = target->answered = target->has_keys = false;
    target->count = 0;
    target->bytes = 0;
    /* A message that is on its way to members passes frozen ones by, and is in the journal. */
    if (nback > 0)
        fanout_finish(sender->ctx);
    for (size_t i = 0; for_good && i < nback; i++)
        share_count(client_counts(back[i])->left_behind, 1);
    sender_take_back(sender, back, nback, &target->at, for_good);
    if (for_good && nback > 0)
        log_warning("%zu connections cannot go to the new shards, they are closed in the course "
                    "of the drain time",
            nback);
    if (!sender_any_sent(sender))
        journal_record(&sender->ctx->mesh->journal, JOURNAL_SENDER, false);
}

void sender_note_answer(struct target *target, const struct handover_message *message)
{
    target->answered = true;
    target->for_good = (message->flags & HANDOVER_FULL) == 0;
    memcpy(target->taken, message->taken, sizeof(target->taken));
    wipe_states(target);
}

int sender_settle_answer(struct target *target)
{
    struct handover_message message = {.batch = target->batch, .count = target->count};
    int r = 0;
    if (target->has_keys && handover_takes_any(target->taken))
        r = handover_send(target->fd, HANDOVER_YOURS, &message, NULL, 0);
    if (r == -EAGAIN)
        return r;
    bool gone = r == -EPIPE || r == -ECONNRESET;
    sender_settle_batch(target, gone ? none : target->taken, target->for_good && !gone);
    return r;
}

void sender_settle_at_end(struct target *target, bool wrong)
{
    uint8_t all[HANDOVER_BITS];
    memset(all, 0xff, sizeof(all));
    target->for_good = false; /* another target may take them */
    if (target->answered && sender_settle_answer(target) == -EAGAIN)
        sender_settle_batch(target, target->taken, false);
    else if (target->sent)
        sender_settle_batch(target, wrong && target->has_keys ? all : none, false);
}
