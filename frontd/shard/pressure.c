/*
 * The level rises as bytes are added (ctx_memory()), and its consequences are drawn there: a client
 * that holds much is not read (client_poll.c), a new request is refused (routes/jsonrpc.c,
 * routes/http.c), accepting pauses (acceptor.c), connections of other shards are not taken
 * (handover/receiver.c).
 *
 * The level falls here, at the end of a turn; then all clients that are not read on its account are
 * looked at once more. Clients are ended, the largest first, where the level
 * - is MEMORY_OUT: of all clients, until it has fallen;
 * - stays at MEMORY_SHORT: of the clients that are not read, since they only wait, and others are
 *   refused; where all are read, of all, if they hold most of the memory: it may be topics, or
 *   connections as such, which would never become less.
 *
 * Clients that are not read would never hold less if none of them went on: as long as there is some
 * memory left, a few of them in turn are read once every LOOK_MS, so that what they send is
 * complete one day.
 *
 * A walk over all clients is not for every turn: while nothing else happens a timer comes back.
 */

#include "frontd/shard/pressure.h"

#include "common/log.h"

enum {
    END_MS = 10,         /* between two walks */
    END_MAX = 64,        /* clients in one of them */
    MOST_PART = 2,       /* where clients have less than this part of what is held, none is ended */
    FEED_MAX = 16,       /* clients that are read once in LOOK_MS; each read has 64 KiB at most */
    LOOK_MS = 100,       /* while some are not read: memory may have been freed unseen */
    GIVE_BACK_MS = 1000, /* after a peak; no request is to wait for it */
};

/* Which clients are looked at, and what counts of each. */
enum holders {
    HOLDERS_ALL,     /* what is held for them */
    HOLDERS_STARVED, /* only of those that are not read */
    HOLDERS_IDLE,    /* that they are there counts, too */
};

/* A client, and what it holds. */
struct holder {
    struct client *client;
    size_t held;
};

/* Keeps the largest ones, the smallest of them first: a heap. */
static void sink(struct holder *heap, size_t n, size_t at)
{
    struct holder holder = heap[at];
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1].held < heap[child].held;
        if (heap[child].held >= holder.held)
            break;
        heap[at] = heap[child];
    }
    heap[at] = holder;
}

static size_t find_largest(const struct list *all, enum holders which, struct holder *heap,
    size_t room, uint64_t *ret_total)
{
    size_t n = 0;
    *ret_total = 0;
    list_for_each (node, all) {
        struct client *client = container_of(node, struct client, node);
        if (client->state >= CLIENT_DOOMED || client->moving || client->arriving ||
            (which == HOLDERS_STARVED && !client->starved))
            continue;
        size_t held = client_holds(client);
        if (which == HOLDERS_IDLE)
            held += sizeof(*client) + client_session(client)->size;
        *ret_total += held;
        if (held == 0 || (n == room && held <= heap[0].held))
            continue;
        if (n < room) {
            heap[n++] = (struct holder){client, held};
            for (size_t i = n == room ? n / 2 : 0; i-- > 0;)
                sink(heap, n, i);
        } else {
            heap[0] = (struct holder){client, held};
            sink(heap, n, 0);
        }
    }
    for (size_t i = n / 2; n < room && i-- > 0;)
        sink(heap, n, i);
    return n;
}

static void say(struct ctx *ctx, const struct holder *largest, size_t n)
{
    static struct log_limit limit;
    char peer[PEER_TEXT_SIZE];
    client_peer_text(largest->client, peer);
    log_limited(&limit, ctx_now(ctx), LOG_WARNING,
        "limits.memory: %zu of %llu KiB are held: %zu connections that hold the most are ended, "
        "the largest is %s with %zu KiB",
        mem_held() >> 10, (unsigned long long)ctx->memory.limit >> 10, n, peer,
        largest->held >> 10);
}

/* Ends the largest holders, so that what they hold brings the level down. */
static void end_largest(struct ctx *ctx, const struct list *all, enum holders which)
{
    enum memory_level level = ctx->memory.level;
    struct holder heap[END_MAX];
    uint64_t total;
    size_t n = find_largest(all, which, heap, END_MAX, &total);
    size_t ended = 0;
    if (which == HOLDERS_IDLE && total < mem_held() / MOST_PART)
        return;
    /* The largest first: the heap has the smallest first. */
    for (size_t left = n; left > 0; left--) {
        struct holder smallest = heap[0];
        heap[0] = heap[left - 1];
        sink(heap, left - 1, 0);
        heap[left - 1] = smallest;
    }
    uint64_t used = mem_held();
    for (; ended < n && memory_step(level, used, ctx->memory.limit) == level; ended++)
        used -= MIN(used, (uint64_t)heap[ended].held);
    if (ended == 0)
        return;
    say(ctx, &heap[0], ended);
    for (size_t i = 0; i < ended; i++) {
        client_because(heap[i].client, METRIC_REASON_ROOM);
        client_doom(heap[i].client);
    }
}

static void look_again(struct ctx *ctx, uint64_t delay_ms)
{
    if (!wheel_armed(&ctx->memory_timer))
        ctx_arm(ctx, &ctx->memory_timer, delay_ms);
}

/* Those that are not read for want of memory are looked at again. */
static void resume(const struct list *all)
{
    list_for_each (node, all) {
        struct client *client = container_of(node, struct client, node);
        if (client->starved)
            client_touch(client);
    }
}

/* Has a few clients that are not read be read once, in turn. */
static void feed(struct memory *memory, uint64_t now, struct list *all)
{
    size_t n = 0;
    if (memory->level != MEMORY_TIGHT || now - memory->fed_at < LOOK_MS)
        return;
    memory->fed_at = now;
    struct list *last = all->prev;
    for (struct list *node = all->next; n < FEED_MAX && node != all;) {
        struct client *client = container_of(node, struct client, node);
        bool end = node == last;
        node = node->next;
        if (client->starved && !client->fed) {
            client->fed = true;
            client_touch(client);
            list_remove(&client->node);
            list_append(all, &client->node);
            n++;
        }
        if (end)
            break;
    }
}

void pressure_turn(struct ctx *ctx, struct list *all)
{
    struct memory *memory = &ctx->memory;
    uint64_t now = ctx_now(ctx);
    if (memory_settle(memory, mem_held()) && memory->unread > 0)
        resume(all);
    if (UNLIKELY(memory->unread > 0))
        feed(memory, now, all);
    bool out = memory->level == MEMORY_OUT;
    bool stuck = memory_is_stuck(memory, now);
    if (UNLIKELY(out || stuck) && now - memory->ended_at >= END_MS) {
        memory->ended_at = now;
        end_largest(ctx, all,
            out                  ? HOLDERS_ALL
            : memory->unread > 0 ? HOLDERS_STARVED
                                 : HOLDERS_IDLE);
    }
    if (UNLIKELY(memory->level == MEMORY_OUT))
        look_again(ctx, END_MS);
    else if (UNLIKELY(memory->unread > 0 || memory->level == MEMORY_SHORT))
        look_again(ctx, LOOK_MS);
    else if (UNLIKELY(memory_fallen(memory, mem_held())))
        look_again(ctx, GIVE_BACK_MS);
}

void pressure_timeout(struct wheel_timer *timer)
{
    struct ctx *ctx = container_of(timer, struct ctx, memory_timer);
    if (!memory_fallen(&ctx->memory, mem_held()))
        return;
    mem_give_back();
    memory_given_back(&ctx->memory, mem_held());
}
