/*
 * take_add() begins to keep a journal of pushes. HELLO is said when every shard that is there has
 * told where its stream of pushes stands: what comes later is in the journal. A BATCH waits until
 * this shard has heard of every shard at least what the old one had when it froze the connections:
 * so that nothing reaches them twice. Then its clients are made of their states; TAKEN says which;
 * only then they begin to live, with the pushes that the journal has for them: the old shard does
 * not touch them any more.
 *
 * If TAKEN cannot be sent, the old shard does not know, and keeps them: they are forgotten here,
 * not a byte having been read or written. A batch for which there are no descriptors is answered
 * with `full`.
 */

#include "frontd/shard/handover/receiver.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/shard/handover/message.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/push.h"
#include "frontd/system/loop.h"

enum {
    JOURNAL_PART = 4, /* of limits.memory: no more than this part is kept for those to come */
    LOOK_MS = 100,
    PROGRESS_MS = 1000, /* an old shard that has said something within this time is waited for */
};

/* An old shard. */
struct giver {
    uv_poll_t poll;
    int fd;
    unsigned seat;
    bool used;
    bool open;
    bool greeted;           /* HELLO has been said */
    bool waiting;           /* `batch` has come and is not answered */
    bool refused;           /* its last batch was, for want of room */
    uint64_t since;         /* ms: we wait for siblings to be heard since */
    uint64_t said_at;       /* ms: it has said something */
    struct positions heard; /* what is not later has no connection to wait for */
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
};

static struct {
    struct ctx *ctx;
    struct acceptor *acceptor;
    struct wheel_timer timer; /* looks again while siblings are to be heard */
    struct giver givers[CONF_SHARDS_MAX];
    size_t used; /* givers: none but during a hand-over */
} take;

void take_init(struct acceptor *acceptor)
{
    memset(&take, 0, sizeof(take));
    take.ctx = acceptor->ctx;
    take.acceptor = acceptor;
    wheel_timer_init(&take.timer, TIMER_TAKE);
}

static void wait_for_siblings(void)
{
    if (!wheel_armed(&take.timer))
        ctx_arm(take.ctx, &take.timer, LOOK_MS);
}

static void on_closed(uv_handle_t *handle)
{
    struct giver *giver = handle->data;
    close(giver->fd);
    giver->used = false;
    if (--take.used == 0)
        message_forget_restored();
}

/* Drops what no old shard's connections can miss any more. */
static void trim(void)
{
    struct positions least;
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(take.givers); i++) {
        const struct giver *giver = &take.givers[i];
        if (!giver->open)
            continue;
        if (!any)
            least = giver->heard;
        for (size_t seat = 0; seat < SHARE_SEATS; seat++) {
            if (position_before(giver->heard.of[seat], least.of[seat]))
                least.of[seat] = giver->heard.of[seat];
        }
        any = true;
    }
    if (any)
        journal_trim(&take.ctx->mesh->journal, &least);
    else
        journal_record(&take.ctx->mesh->journal, JOURNAL_TAKE, false);
}

static void lose(struct giver *giver, const char *why)
{
    if (!giver->open)
        return;
    log_debug("the hand-over from the shard on seat %u ends: %s", giver->seat, why);
    giver->open = false;
    uv_close((uv_handle_t *)&giver->poll, on_closed);
    if (giver->waiting)
        fdpass_close(giver->fds, giver->batch.count + 1);
    giver->waiting = false;
    trim();
}

/*
 * There is no room for a batch of so many connections. The old shard tries other new shards first;
 * where it comes again there is no room there either, and connections that have never been used
 * make room for those that it offers.
 */
static bool make_room(struct giver *giver, size_t missing)
{
    return giver->refused && acceptor_make_room(take.acceptor, missing) == missing;
}

static void answer_full(struct giver *giver, const struct handover_message *batch)
{
    struct handover_message message = {.batch = batch->batch, .count = batch->count, .full = true};
    giver->refused = true;
    int r = handover_send(giver->fd, HANDOVER_TAKEN, &message, NULL, 0);
    if (r < 0)
        lose(giver, log_error_text(r));
}

/* The states as they lie in the memfd; NULL with *ret_size 0 where it cannot be read. */
static char *map_states(int fd, size_t *ret_size)
{
    struct stat st;
    *ret_size = 0;
    if (fstat(fd, &st) < 0 || st.st_size == 0)
        return NULL;
    /* A private copy of a file that somebody else could still cut would fault; the old shard is
     * this program, under the same user. */
    char *states = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (states == MAP_FAILED)
        return NULL;
    *ret_size = (size_t)st.st_size;
    return states;
}

/* Makes the clients of a batch; those that cannot be are NULL. Returns whether that was for want of
 * memory with any of them: those may be taken later. */
static bool restore(const struct giver *giver, struct client **clients)
{
    size_t size;
    size_t at = 0;
    bool memory_short = false;
    char *states = map_states(giver->fds[0], &size);
    for (uint32_t i = 0; i < giver->batch.count; i++) {
        struct span state = handover_next_state(states, size, &at);
        clients[i] = NULL;
        if (state.n == 0)
            continue;
        int r = client_restore(
            take.ctx, &take.acceptor->clients, giver->fds[i + 1], state, &clients[i]);
        memory_short = memory_short || r == -ENOMEM;
        if (r < 0)
            log_debug("a connection of the shard on seat %u is not taken: %s", giver->seat,
                log_error_text(r));
    }
    if (states != NULL)
        munmap(states, size);
    return memory_short;
}

/* They are ours now. */
static void start(const struct giver *giver, struct client **clients)
{
    for (uint32_t i = 0; i < giver->batch.count; i++) {
        if (clients[i] == NULL)
            close(giver->fds[i + 1]);
    }
    journal_replay(&take.ctx->mesh->journal, &giver->batch.heard, push_replay, take.ctx);
    for (uint32_t i = 0; i < giver->batch.count; i++) {
        if (clients[i] != NULL)
            client_start(clients[i]);
    }
}

static void forget(const struct giver *giver, struct client **clients)
{
    for (uint32_t i = 0; i < giver->batch.count; i++) {
        if (clients[i] != NULL)
            client_discard(clients[i]);
    }
    fdpass_close(giver->fds + 1, giver->batch.count);
}

static void take_batch(struct giver *giver)
{
    struct client *clients[HANDOVER_BATCH_MAX] = {NULL};
    struct handover_message message = {.batch = giver->batch.batch, .count = giver->batch.count};
    giver->waiting = false;
    message.full = restore(giver, clients);
    close(giver->fds[0]);
    for (uint32_t i = 0; i < giver->batch.count; i++) {
        if (clients[i] != NULL)
            message.taken[i / 8] |= (uint8_t)(1 << (i % 8));
    }
    int r = handover_send(giver->fd, HANDOVER_TAKEN, &message, NULL, 0);
    if (r < 0) {
        forget(giver, clients);
        lose(giver, log_error_text(r));
        return;
    }
    giver->heard = giver->batch.heard;
    start(giver, clients);
    trim();
}

static void greet(struct giver *giver)
{
    struct handover_message hello = {0};
    giver->greeted = true;
    mesh_positions(take.ctx->mesh, &hello.heard);
    giver->heard = hello.heard;
    int r = handover_send(giver->fd, HANDOVER_HELLO, &hello, NULL, 0);
    if (r < 0)
        lose(giver, log_error_text(r));
}

void take_turn(void)
{
    for (size_t i = 0; take.used > 0 && i < ARRAY_LEN(take.givers); i++) {
        struct giver *giver = &take.givers[i];
        /* What we have not got round to yet is not missing: taken before it, it would come twice.
         */
        if (giver->waiting && mesh_behind(take.ctx->mesh))
            giver->since = ctx_now(take.ctx);
        bool late = ctx_now(take.ctx) - giver->since >= HANDOVER_WAIT_MS;
        if (giver->open && !giver->greeted && (late || mesh_complete(take.ctx->mesh)))
            greet(giver);
        if (giver->waiting && (late || mesh_has_heard(take.ctx->mesh, &giver->batch.heard)))
            take_batch(giver);
    }
}

bool take_waiting(void)
{
    for (size_t i = 0; i < ARRAY_LEN(take.givers); i++) {
        if (take.givers[i].waiting)
            return true;
    }
    return false;
}

void take_timeout(struct wheel_timer *timer)
{
    (void)timer;
    for (size_t i = 0; i < ARRAY_LEN(take.givers); i++) {
        if (take.givers[i].open && (take.givers[i].waiting || !take.givers[i].greeted))
            wait_for_siblings(); /* take_turn() comes at the end of this turn */
    }
}

/* Whether every old shard goes on giving its connections, so that the journal will be shorter. */
static bool givers_move(void)
{
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(take.givers); i++) {
        const struct giver *giver = &take.givers[i];
        if (giver->open && ctx_now(take.ctx) - giver->said_at >= PROGRESS_MS)
            return false;
        any |= giver->open;
    }
    return any;
}

bool take_overloaded(void)
{
    uint64_t limit = take.ctx->memory.limit;
    size_t most = limit == 0 ? JOURNAL_MAX
                             : (size_t)MIN(limit / JOURNAL_PART, (uint64_t)JOURNAL_MAX);
    if (take_waiting())
        return mesh_behind(take.ctx->mesh); /* it is behind that that connections wait */
    return journal_size(&take.ctx->mesh->journal) > most && givers_move();
}

static void on_batch(
    struct giver *giver, const struct handover_message *message, const int *fds, size_t nfds)
{
    struct ctx *ctx = take.ctx;
    uint64_t open = ctx->open + message->count;
    uint64_t most = take.acceptor->most;
    if (ctx_memory(ctx) >= MEMORY_SHORT || (open > most && !make_room(giver, open - most))) {
        fdpass_close(fds, nfds);
        answer_full(giver, message);
        return;
    }
    giver->refused = false;
    giver->batch = *message;
    memcpy(giver->fds, fds, nfds * sizeof(int));
    giver->waiting = true;
    giver->since = ctx_now(ctx);
    wait_for_siblings();
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct giver *giver = poll->data;
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    if (giver->waiting)
        take_turn(); /* else the old shard has broken the order, which is seen below */
    if (!giver->open)
        return; /* it was lost in that turn */
    int r = handover_receive(giver->fd, &message, fds, &nfds);
    if (r == -EAGAIN)
        return;
    giver->said_at = ctx_now(take.ctx);
    if (r == -EMFILE && message.type == HANDOVER_BATCH) {
        log_warning("no descriptors for %u connections of the shard on seat %u: they stay there",
            message.count, giver->seat);
        make_room(giver, message.count); /* for when they are offered again */
        answer_full(giver, &message);
    } else if (r < 0) {
        lose(giver, r == -EPIPE ? "it is gone" : log_error_text(r));
    } else if (message.type == HANDOVER_BATCH && !giver->waiting) {
        on_batch(giver, &message, fds, nfds);
    } else if (message.type == HANDOVER_HEARD) {
        giver->heard = message.heard;
        trim();
    } else {
        fdpass_close(fds, nfds);
        lose(giver, "unexpected message");
    }
}

int take_add(unsigned seat, int fd)
{
    struct giver *giver = NULL;
    for (size_t i = 0; i < ARRAY_LEN(take.givers); i++) {
        if (!take.givers[i].used)
            giver = &take.givers[i];
    }
    int r = giver == NULL ? -ENOSPC : 0;
    if (r == 0) {
        *giver = (struct giver){.fd = fd, .seat = seat};
        r = loop_poll_init(&take.ctx->loop, &giver->poll, fd);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    giver->used = true;
    take.used++;
    giver->open = true;
    giver->poll.data = giver;
    CHECK(uv_poll_start(&giver->poll, UV_READABLE, on_readable) == 0);
    giver->since = giver->said_at = ctx_now(take.ctx);
    journal_record(&take.ctx->mesh->journal, JOURNAL_TAKE, true);
    wait_for_siblings();
    return 0; /* HELLO follows when the turn ends, or a later one */
}

void take_shut(void)
{
    for (size_t i = 0; i < ARRAY_LEN(take.givers); i++)
        lose(&take.givers[i], "this shard ends");
    if (take.ctx != NULL)
        wheel_disarm(&take.timer);
}
