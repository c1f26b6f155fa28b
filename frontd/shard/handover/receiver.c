/*
 * receiver_add() begins to keep a journal of pushes. HELLO is said when every shard that is there
 * has told where its stream of pushes stands: what comes later is in the journal. A BATCH waits
 * until this shard has heard of every shard at least what the old one had when it froze the
 * connections, so that no push reaches them twice. Then clients are restored of their states; TAKEN
 * says which; only then they begin to live, with the pushes that the journal has for them, since
 * the old shard does not touch them any more.
 *
 * It ends in another way where
 * - TAKEN cannot be sent: the old shard keeps the connections; the clients are discarded here,
 *   without a byte read or written;
 * - there are no descriptors, or no memory: TAKEN says FULL, and the old shard tries again;
 * - the old shard ends, or breaks the order of messages: a batch that waits is dropped.
 *
 * Where a batch has keys among its connections (message.h), TAKEN does not make them this shard's.
 * The clients are given what the journal has and hear pushes from then on, but are neither read nor
 * written (`arriving`) until
 * - YOURS comes, or the end of the socket: the old shard has no keys any more, or is dead. However
 *   long that takes while it is alive;
 * - this shard ends, or the old one breaks the order of messages: from then on YOURS cannot be
 *   sent, and the old shard, which is told so when it tries, keeps them; YOURS that lies there
 *   counts. They are discarded here without a byte read or written.
 */

#include "frontd/shard/handover/receiver.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/shard/client/acceptor.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/push.h"
#include "frontd/system/loop.h"

enum {
    JOURNAL_PART = 4, /* the journal is to have no more than this part of limits.memory */
    LOOK_MS = 100,
    PROGRESS_MS = 1000, /* an old shard that has said something within this time is waited for */
};

void receiver_init(struct receiver *receiver, struct acceptor *acceptor)
{
    receiver->ctx = acceptor->ctx;
    receiver->acceptor = acceptor;
    wheel_timer_init(&receiver->timer, TIMER_RECEIVER);
}

static void wait_for_siblings(struct receiver *receiver)
{
    if (!wheel_armed(&receiver->timer))
        ctx_arm(receiver->ctx, &receiver->timer, LOOK_MS);
}

static void on_source_closed(uv_handle_t *handle)
{
    struct source *source = handle->data;
    close(source->fd);
    source->used = false;
    if (--source->receiver->used == 0)
        message_forget_restored(&source->receiver->ctx->restored);
}

/* Drops the pushes that no old shard's connections need any more. */
static void trim_journal(struct receiver *receiver)
{
    struct positions least;
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(receiver->sources); i++) {
        const struct source *source = &receiver->sources[i];
        if (!source->open)
            continue;
        if (!any)
            least = source->heard;
        for (size_t seat = 0; seat < SHARE_SEATS; seat++) {
            if (position_before(source->heard.of[seat], least.of[seat]))
                least.of[seat] = source->heard.of[seat];
        }
        any = true;
    }
    if (any)
        journal_trim(&receiver->ctx->mesh->journal, &least);
    else
        journal_record(&receiver->ctx->mesh->journal, JOURNAL_RECEIVER, false);
}

/* The clients of a batch are on their way, until they are this shard's or are not. */
static void count_arriving(const struct source *source, int n)
{
    for (uint32_t i = 0; i < source->batch.count; i++) {
        if (source->clients[i] == NULL)
            continue;
        _Atomic uint64_t *arriving = &client_counts(source->clients[i])->arriving[source->seat];
        uint64_t before = atomic_load_explicit(arriving, memory_order_relaxed);
        atomic_store(arriving, before + (uint64_t)n); /* before BATCH is answered */
    }
}

/*
 * They are this shard's now (metric_book.h): before they are not arriving any more. Where the old
 * shard counts in another memory, they are accepted in this one.
 */
static void count_arrived(const struct source *source)
{
    const struct ctx *ctx = source->receiver->ctx;
    bool foreign = *share_front(ctx->share, source->seat)->incarnation == 0;
    for (uint32_t i = 0; i < source->batch.count; i++) {
        if (source->clients[i] == NULL)
            continue;
        struct listener_words *words = client_counts(source->clients[i]);
        share_count(foreign ? words->accepted : &words->arrived[source->seat], 1);
        share_count(words->handed_over, 1);
    }
    count_arriving(source, -1);
}

/* The clients of a batch, which are this shard's now, begin to live. */
static void start(struct source *source)
{
    if (source->holding)
        count_arrived(source);
    source->holding = false;
    for (uint32_t i = 0; i < source->batch.count; i++) {
        if (source->clients[i] != NULL)
            client_start(source->clients[i]);
    }
}

/* The clients of a batch are the old shard's still. */
static void forget(struct source *source)
{
    source->holding = false;
    count_arriving(source, -1);
    for (uint32_t i = 0; i < source->batch.count; i++) {
        if (source->clients[i] == NULL)
            continue;
        client_discard(source->clients[i]);
        close(source->fds[i + 1]);
    }
}

static bool is_yours(const struct source *source, const struct handover_message *message)
{
    return message->type == HANDOVER_YOURS && source->holding &&
           message->batch == source->batch.batch;
}

/* A batch that is held comes to its end, since nothing is heard of the old shard any more. */
static void end_hold(struct source *source)
{
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    shutdown(source->fd, SHUT_RD); /* from here on YOURS cannot be sent: it fails over there */
    int r = handover_receive(source->fd, &message, fds, &nfds);
    if (r == 0)
        fdpass_close(fds, nfds);
    if (r == 0 && is_yours(source, &message))
        start(source);
    else
        forget(source);
}

static void lose_source(struct source *source, const char *why)
{
    if (!source->open)
        return;
    if (source->holding)
        end_hold(source);
    log_debug("the hand-over from the shard on seat %u ends: %s", source->seat, why);
    source->open = false;
    uv_close((uv_handle_t *)&source->poll, on_source_closed);
    if (source->waiting)
        fdpass_close(source->fds, source->batch.count + 1);
    source->waiting = false;
    trim_journal(source->receiver);
}

/*
 * So many connections of a batch find no room. The old shard tries other new shards first. Where it
 * offers them here again, there is no room elsewhere either: connections that have never been used
 * are closed for them. Returns whether there is room now.
 */
static bool make_room(struct source *source, size_t missing)
{
    return source->refused && acceptor_make_room(source->receiver->acceptor, missing) == missing;
}

static void answer_full(struct source *source, const struct handover_message *batch)
{
    struct handover_message message = {
        .batch = batch->batch, .count = batch->count, .flags = HANDOVER_FULL};
    source->refused = true;
    int r = handover_send(source->fd, HANDOVER_TAKEN, &message, NULL, 0);
    if (r < 0)
        lose_source(source, log_error_text(r));
}

/* The states as they lie in the memfd; NULL with *ret_size 0 where it cannot be read. */
static char *map_states(int fd, size_t *ret_size)
{
    struct stat st;
    *ret_size = 0;
    if (fstat(fd, &st) < 0 || st.st_size == 0)
        return NULL;
    /* A mapping of a file that another process cuts would fault; the old shard is this program,
     * under the same user. */
    char *states = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (states == MAP_FAILED)
        return NULL;
    madvise(states, (size_t)st.st_size, MADV_DONTDUMP); /* there may be keys in it */
    *ret_size = (size_t)st.st_size;
    return states;
}

/* Restores the clients of a batch; NULL in place of those that cannot be. Returns whether that was
 * for want of memory with any of them: those may be taken later. */
static bool restore(struct source *source)
{
    struct client **clients = source->clients;
    struct acceptor *acceptor = source->receiver->acceptor;
    size_t size;
    size_t at = 0;
    bool memory_short = false;
    char *states = map_states(source->fds[0], &size);
    for (uint32_t i = 0; i < source->batch.count; i++) {
        struct span state = handover_next_state(states, size, &at);
        clients[i] = NULL;
        if (state.n == 0)
            continue;
        int r = client_restore(
            acceptor->ctx, &acceptor->clients, source->fds[i + 1], state, &clients[i]);
        memory_short = memory_short || r == -ENOMEM;
        if (r < 0)
            log_debug("a connection of the shard on seat %u is not taken: %s", source->seat,
                log_error_text(r));
    }
    if (states != NULL)
        munmap(states, size);
    return memory_short;
}

/* The clients of a batch get the pushes that came by while they moved. */
static void catch_up(struct source *source)
{
    struct ctx *ctx = source->receiver->ctx;
    journal_replay(&ctx->mesh->journal, &source->batch.heard, push_replay, ctx);
    for (uint32_t i = 0; i < source->batch.count; i++) {
        if (source->clients[i] != NULL)
            client_set_caught_up(source->clients[i]);
    }
    source->heard = source->batch.heard;
    trim_journal(source->receiver);
}

static void accept_batch(struct source *source)
{
    struct handover_message message = {.batch = source->batch.batch, .count = source->batch.count};
    source->waiting = false;
    message.flags = restore(source) ? HANDOVER_FULL : 0;
    close(source->fds[0]);
    for (uint32_t i = 0; i < source->batch.count; i++) {
        if (source->clients[i] != NULL)
            message.taken[i / 8] |= (uint8_t)(1 << (i % 8));
        else
            close(source->fds[i + 1]);
    }
    count_arriving(source, 1);
    int r = handover_send(source->fd, HANDOVER_TAKEN, &message, NULL, 0);
    if (r < 0) {
        forget(source);
        lose_source(source, log_error_text(r));
        return;
    }
    source->holding = source->batch.flags & HANDOVER_TWICE && handover_takes_any(message.taken);
    if (!source->holding)
        count_arrived(source);
    catch_up(source);
    if (!source->holding)
        start(source);
}

static void greet(struct source *source)
{
    struct handover_message hello = {.flags = HANDOVER_TWICE};
    source->greeted = true;
    mesh_positions(source->receiver->ctx->mesh, &hello.heard);
    source->heard = hello.heard;
    int r = handover_send(source->fd, HANDOVER_HELLO, &hello, NULL, 0);
    if (r < 0)
        lose_source(source, log_error_text(r));
}

void receiver_turn(struct receiver *receiver)
{
    for (size_t i = 0; receiver->used > 0 && i < ARRAY_LEN(receiver->sources); i++) {
        struct source *source = &receiver->sources[i];
        /* Frames of siblings that lie here, not carried out yet, are not late: a batch that was
         * taken before them would get them twice. */
        if (source->waiting && mesh_behind(receiver->ctx->mesh))
            source->since = ctx_now(receiver->ctx);
        bool late = ctx_now(receiver->ctx) - source->since >= HANDOVER_WAIT_MS;
        if (source->open && !source->greeted && (late || mesh_complete(receiver->ctx->mesh)))
            greet(source);
        if (source->waiting && (late || mesh_has_heard(receiver->ctx->mesh, &source->batch.heard)))
            accept_batch(source);
    }
}

bool receiver_waiting(const struct receiver *receiver)
{
    for (size_t i = 0; i < ARRAY_LEN(receiver->sources); i++) {
        if (receiver->sources[i].waiting)
            return true;
    }
    return false;
}

void receiver_timeout(struct wheel_timer *timer)
{
    struct receiver *receiver = container_of(timer, struct receiver, timer);
    for (size_t i = 0; i < ARRAY_LEN(receiver->sources); i++) {
        if (receiver->sources[i].open &&
            (receiver->sources[i].waiting || !receiver->sources[i].greeted))
            wait_for_siblings(receiver); /* receiver_turn() comes at the end of this turn */
    }
}

/* Whether every old shard goes on sending connections, so that the journal will be shorter. */
static bool sources_move(const struct receiver *receiver)
{
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(receiver->sources); i++) {
        const struct source *source = &receiver->sources[i];
        if (source->open && ctx_now(receiver->ctx) - source->said_at >= PROGRESS_MS)
            return false;
        any |= source->open;
    }
    return any;
}

bool receiver_overloaded(const struct receiver *receiver)
{
    uint64_t limit = receiver->ctx->memory.limit;
    size_t most = limit == 0 ? JOURNAL_MAX
                             : (size_t)MIN(limit / JOURNAL_PART, (uint64_t)JOURNAL_MAX);
    if (receiver_waiting(receiver))
        return mesh_behind(receiver->ctx->mesh); /* connections wait for what lies there */
    return journal_size(&receiver->ctx->mesh->journal) > most && sources_move(receiver);
}

static void on_batch(
    struct source *source, const struct handover_message *message, const int *fds, size_t nfds)
{
    struct receiver *receiver = source->receiver;
    struct ctx *ctx = receiver->ctx;
    uint64_t open = ctx->open + message->count;
    uint64_t most = receiver->acceptor->most;
    if (ctx_memory(ctx) >= MEMORY_SHORT || (open > most && !make_room(source, open - most))) {
        fdpass_close(fds, nfds);
        answer_full(source, message);
        return;
    }
    source->refused = false;
    source->batch = *message;
    memcpy(source->fds, fds, nfds * sizeof(int));
    source->waiting = true;
    source->since = ctx_now(ctx);
    wait_for_siblings(receiver);
}

static void on_source_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct source *source = poll->data;
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    if (source->waiting)
        receiver_turn(
            source->receiver); /* else the old shard has broken the order, which is seen below */
    if (!source->open)
        return; /* it was lost in that turn */
    int r = handover_receive(source->fd, &message, fds, &nfds);
    if (r == -EAGAIN)
        return;
    source->said_at = ctx_now(source->receiver->ctx);
    if (r == -EMFILE && message.type == HANDOVER_BATCH) {
        log_warning("no descriptors for %u connections of the shard on seat %u: they stay there",
            message.count, source->seat);
        make_room(source, message.count); /* for when they are offered again */
        answer_full(source, &message);
    } else if (r == -EPIPE) {
        if (source->holding)
            start(source); /* the old shard has no keys of them, or is dead */
        lose_source(source, "it is gone");
    } else if (r < 0) {
        lose_source(source, log_error_text(r));
    } else if (message.type == HANDOVER_BATCH && !source->waiting && !source->holding) {
        on_batch(source, &message, fds, nfds);
    } else if (is_yours(source, &message)) {
        start(source);
    } else if (message.type == HANDOVER_HEARD) {
        source->heard = message.heard;
        trim_journal(source->receiver);
    } else {
        fdpass_close(fds, nfds);
        lose_source(source, "unexpected message");
    }
}

int receiver_add(struct receiver *receiver, unsigned seat, int fd)
{
    struct source *source = NULL;
    for (size_t i = 0; i < ARRAY_LEN(receiver->sources); i++) {
        if (!receiver->sources[i].used)
            source = &receiver->sources[i];
    }
    int r = source == NULL ? -ENOSPC : 0;
    if (r == 0) {
        *source = (struct source){.receiver = receiver, .fd = fd, .seat = seat};
        r = loop_poll_init(&receiver->ctx->loop, &source->poll, fd);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    source->used = true;
    receiver->used++;
    source->open = true;
    source->poll.data = source;
    CHECK(uv_poll_start(&source->poll, UV_READABLE, on_source_readable) == 0);
    source->since = source->said_at = ctx_now(receiver->ctx);
    journal_record(&receiver->ctx->mesh->journal, JOURNAL_RECEIVER, true);
    wait_for_siblings(receiver);
    return 0; /* HELLO follows when the turn ends, or a later one */
}

void receiver_shut(struct receiver *receiver)
{
    for (size_t i = 0; i < ARRAY_LEN(receiver->sources); i++)
        lose_source(&receiver->sources[i], "this shard ends");
    if (receiver->ctx != NULL)
        wheel_disarm(&receiver->timer);
}
