/*
 * Bytes come in through on_readable(): run() gives them to the session where they were read, and an
 * incomplete rest is copied aside into `pending`. While too many calls are in progress or answers
 * pile up no more are started; client_flush() goes on with what is pending. Reading pauses then; a
 * connection that stays is read on, up to a bound, for what its session answers by itself
 * (look_ahead()). Everything that goes out gathers in `out` (and `queue`) and is written once a
 * turn, by client_flush().
 *
 * A connection ends after its last byte (CLIENT_ENDING): our side is shut, and what the client
 * still sends is dropped for a while (CLIENT_LINGERING), since closing with unread bytes would
 * reset the connection and take the answer with it. Whoever breaks off at once is CLIENT_DOOMED.
 * What becomes of bytes that the kernel has then is in client_end.c.
 *
 * The poller has every connection until it is closed, also while nothing of it is waited for: that
 * it was reset is seen at once (CLIENT_LOST). It has one no longer that would be reported in vain
 * in each turn: `deserted`, or on its way to another process. Those whose sockets are full are in
 * another one as well, which lets only so many be written to in a turn: a thousand that read slowly
 * do not hold up what others send.
 *
 * While the shard gives its connections away (ctx->leaving), one that is found quiet at the end of
 * a flush is put where give.c takes it from; what it has sent on is left for the other process.
 *
 * One timer serves all timeouts: it is armed for the earliest known time and looks, when it fires,
 * whether the time has moved; so an active client does not touch the wheel.
 */

#include "frontd/shard/client/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/shard/client/refusal.h"

enum {
    LINGER_MS = 2000,      /* after our last byte: time for the client to read it and close */
    HALF_CLOSED_MS = 1000, /* for answers to a client that has shut its side, or is gone */
    BODY_RATE = 128,       /* bytes a second that a body must come at, over body_timeout */
    SMALL_PART = 2,        /* of write_buffer: up to this an answer goes out, whatever is held */
    OUT_SMALL = 4096,      /* bytes: an answer that is held even where memory is out */
    WRITE_PIECES = 64,     /* of a message queue in one write */
};

void client_touch(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (client->touched)
        return;
    client->touched = true;
    client->dirty = NULL;
    *ctx->dirty_tail = client;
    ctx->dirty_tail = &client->dirty;
}

void client_doom(struct client *client)
{
    if (client->state < CLIENT_DOOMED)
        client->state = CLIENT_DOOMED;
    client_touch(client);
}

void client_free_pending(struct client *client)
{
    if (client->pending == NULL)
        return;
    buf_deinit(&client->pending->bytes);
    client->pending = mem_free(client->pending);
}

/* The peer as a socket address, for what counts connections by peer. */
static void peer_sockaddr(const struct client *client, struct sockaddr_storage *ret_addr)
{
    memset(ret_addr, 0, sizeof(*ret_addr));
    ret_addr->ss_family = client->peer_family;
    if (client->peer_family == AF_INET)
        memcpy(&((struct sockaddr_in *)ret_addr)->sin_addr, client->peer, 4);
    else if (client->peer_family == AF_INET6)
        memcpy(&((struct sockaddr_in6 *)ret_addr)->sin6_addr, client->peer, 16);
}

void client_count(struct client *client)
{
    struct ctx *ctx = client->ctx;
    struct sockaddr_storage peer;
    CHECK(share_connection_add(ctx->share, ctx->seat, UINT64_MAX));
    peer_sockaddr(client, &peer);
    if (ctx->conf->limits.connections_per_peer > 0)
        CHECK(share_peer_add(ctx->share, ctx->seat, (struct sockaddr *)&peer, UINT64_MAX));
    ctx->open++;
}

static void uncount(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (ctx->conf->limits.connections_per_peer > 0) {
        struct sockaddr_storage peer;
        peer_sockaddr(client, &peer);
        share_peer_remove(ctx->share, ctx->seat, (struct sockaddr *)&peer);
    }
    share_connection_remove(ctx->share, ctx->seat);
    ctx->open--;
    if (client->moving)
        share_count(&ctx->count->moved, 1);
    else if (!client->arriving)
        share_count(&ctx->count->closed, 1);
}

static void wait_for(struct client *client, uint16_t events)
{
    static struct log_limit limit;
    struct ctx *ctx = client->ctx;
    const uint32_t out = EPOLLOUT;
    int fd = client->fd;
    int r = poller_set(&ctx->poller, fd, client->events & ~out, events & ~out, client);
    if (UNLIKELY(((client->events ^ events) & out) != 0) && r == 0) {
        uint32_t before = client->events & out;
        client->events = (uint16_t)(before | (events & ~out)); /* of these it is to be rid again */
        r = poller_set(&ctx->writers, fd, before, events & out, client);
    }
    if (r < 0) {
        log_limited(&limit, ctx_now(ctx), LOG_ERROR,
            "cannot wait for what a client sends, closing its connection: %s", log_error_text(r));
        client_doom(client);
        return;
    }
    client->events = events;
}

/* It is read again. */
static void resumed(struct client *client)
{
    const struct session_ops *session = client_session(client);
    if (session->resumed != NULL)
        session->resumed(client);
}

static void set_starved(struct client *client, bool starved)
{
    if (LIKELY(client->starved == starved))
        return;
    client->starved = starved;
    client->ctx->memory.unread += starved ? 1U : -1U;
    if (!starved)
        resumed(client); /* it could not be heard */
}

void client_strip(struct client *client)
{
    client->state = CLIENT_CLOSED;
    client->touched = true; /* for good: nothing below is to queue it again */
    client->ctx->requests_ops->abandon(client);
    client_session(client)->gone(client);
    client_free_pending(client);
    buf_deinit(&client->out);
    message_queue_free(&client->queue);
    set_starved(client, false);
    wheel_disarm(&client->timer);
    list_remove(&client->node);
    wait_for(client, 0);
}

void client_dispose(struct client *client)
{
    CHECK(!client->ctx->poller.busy);
    client_strip(client);
    uncount(client);
    slab_put(&client->ctx->clients, client);
}

static void destroy(struct client *client)
{
    int fd = client->fd;
    CHECK(client->state == CLIENT_DOOMED);
    client_set_end(client);
    client_dispose(client);
    close(fd);
}

/* Whether what is held for it, and may be soon, leaves room for one more request. */
static bool has_room(const struct client *client)
{
    size_t limit = client->ctx->conf->limits.write_buffer;
    size_t held = client_waiting(client) + client->held_back;
    return held + client->claimed < limit ||
           (client->calls == 0 && !client->backlog && held < limit);
}

bool client_may_start(const struct client *client)
{
    const struct ctx *ctx = client->ctx;
    return client->state == CLIENT_OPEN && !client->last_request && !client->held &&
           client->calls < ctx->conf->limits.calls_per_connection &&
           LIKELY(!ctx->hush || list_empty(&client->requests)) && has_room(client);
}

bool client_takes(struct client *client)
{
    struct ctx *ctx = client->ctx;
    if (!client_may_start(client))
        return false;
    client->yields = ctx->taken++ >= WORK_CLIENT_MESSAGES;
    return !client->yields;
}

bool client_answers_ahead(struct client *client)
{
    client->yields = client->ctx->taken++ >= WORK_CLIENT_MESSAGES;
    return !client->yields;
}

bool client_has_space(const struct client *client)
{
    return client_waiting(client) < client->ctx->conf->limits.write_buffer;
}

size_t client_large(const struct client *client, bool push)
{
    const struct message_queue *queue = client->queue;
    if (LIKELY(queue == NULL))
        return 0;
    const struct message *first = queue->items[queue->first];
    if (first->len <= client->ctx->conf->limits.write_buffer || (push && !first->push))
        return 0;
    return first->len - queue->written + (size_t)MESSAGE_OVERHEAD;
}

/* What waits before an answer: a large push may wait besides. */
static size_t waiting_besides(const struct client *client)
{
    return client_waiting(client) - client_large(client, true);
}

bool client_fits(struct client *client, size_t n, size_t own, bool at_once)
{
    struct ctx *ctx = client->ctx;
    size_t limit = ctx->conf->limits.write_buffer;
    bool out = UNLIKELY(ctx_memory(ctx) == MEMORY_OUT) && n > OUT_SMALL;
    if (LIKELY(waiting_besides(client) + client->held_back - own <= limit && !out))
        return true;
    client_write(client);
    if (client_is_duplex(client) && waiting_besides(client) > limit)
        client_session(client)->yield(client);
    size_t waiting = waiting_besides(client);
    return !(out && waiting + n > OUT_SMALL) && (waiting + client->held_back - own <= limit ||
                                                    (at_once && waiting + n <= limit / SMALL_PART));
}

/* What is in its own buffers, in bytes. */
static size_t buffered(const struct client *client)
{
    return client->out.size + (client->queue == NULL ? 0 : message_queue_cost(client->queue)) +
           (client->pending == NULL ? 0 : client->pending->bytes.size);
}

size_t client_holds(const struct client *client)
{
    size_t n = buffered(client);
    if (client_is_duplex(client))
        n += client_session(client)->holds(client);
    return n + client->ctx->requests_ops->hold(client);
}

/* Whether it holds more than one may that is read while the shard is that short of memory. */
static bool holds_much(const struct client *client, enum memory_level level)
{
    return buffered(client) + client->held_back + (client->calls > 0 ? client->claimed : 0) >
           memory_little(level);
}

char *client_room(struct client *client, size_t n)
{
    char *room = NULL;
    client_touch(client);
    /* What is pushed behind a large answer is to know it as one: see client_large(). */
    bool large = client_is_duplex(client) && n > client->ctx->conf->limits.write_buffer;
    if (client->queue == NULL && LIKELY(!large)) {
        room = buf_room(&client->out, n);
        if (room != NULL)
            buf_added(&client->out, n);
    } else {
        struct message *message = message_new(n, false);
        if (message != NULL && message_queue_add(&client->queue, message) == 0)
            room = message->bytes;
        message_unref(message);
    }
    if (room == NULL)
        client_doom(client);
    return room;
}

int client_add_message(struct client *client, struct message *message)
{
    client_touch(client);
    client_set_used(client);
    return message_queue_add(&client->queue, message);
}

void client_become_used(struct client *client)
{
    struct ctx *ctx = client->ctx;
    client->used = true;
    if (ctx->used == NULL)
        return; /* it may be in another list by now */
    list_remove(&client->node);
    list_append(ctx->used, &client->node);
}

/* Why, for frontd.disconnect. */
static void set_code(struct client *client, unsigned code)
{
    if (client_is_duplex(client))
        client_session(client)->set_code(client, code);
}

bool client_evict(struct client *client)
{
    bool queued = client->touched;
    set_code(client, WS_CODE_TRY_LATER);
    client->state = CLIENT_DOOMED;
    if (!queued)
        destroy(client);
    return !queued;
}

static void start_clocks(struct client *client)
{
    struct pending *pending = client->pending;
    pending->started = pending->heard = pending->window = ctx_now(client->ctx);
    pending->window_bytes = 0;
}

/* What the client could not say while it was not read is not held against it. */
static void set_unread(struct client *client, bool unread)
{
    bool again = client->unread && !unread;
    client->unread = unread;
    if (again && client->pending != NULL)
        start_clocks(client);
    if (again)
        resumed(client);
}

/*
 * Whether it is not read for want of memory: it holds much; or it sends what there is no answer to
 * by which it could be refused.
 */
static bool must_starve(const struct client *client, enum memory_level level)
{
    if (client->fed && level < MEMORY_SHORT)
        return false;
    return holds_much(client, level) || (level >= MEMORY_SHORT && client_is_duplex(client) &&
                                            client_session(client)->route(client)->raw);
}

/*
 * How many bytes more may be read though no request may be started: so that what is pending is at
 * most one message, as it may always be, and what one read brings.
 */
static size_t ahead_room(const struct client *client)
{
    size_t limit = (size_t)client->ctx->conf->limits.body + CTX_READ_SIZE;
    size_t used = client->pending == NULL ? 0 : buf_len(&client->pending->bytes);
    if (client_session(client)->ahead == NULL || client->state != CLIENT_OPEN ||
        client->last_request || client->held || client->shut || used >= limit)
        return 0;
    return limit - used;
}

static void wait_for_what_matters(struct client *client)
{
    enum memory_level level = client->ctx->memory.level;
    bool read = client_may_start(client) || (client->state == CLIENT_LINGERING && !client->shut);
    set_unread(client, !read);
    read = read || ahead_room(client) > 0;
    /* One that sends no more is read to its end: it goes then. */
    set_starved(client, UNLIKELY(level != MEMORY_EASY) && read && !client->shut &&
                            client->state == CLIENT_OPEN && must_starve(client, level));
    read = read && !client->starved;
    bool write = client_writable(client) > 0;
    /* Who is not read, but waits for an answer, may leave. (A pipelining HTTP client whose reading
     * is paused has requests unread, which its end would overtake; see also on_hang_up().) */
    bool leaves = client->state == CLIENT_OPEN && !read && !client->shut &&
                  (client->last_request || client_is_duplex(client) || client->starved);
    uint16_t events = (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0) | (leaves ? EPOLLRDHUP : 0);
    if (UNLIKELY(read && !client_is_read(client)))
        resumed(client);
    bool told = client->deserted || (client->state == CLIENT_LINGERING && client->shut);
    wait_for(client, told && !read ? 0 : events | CLIENT_LOST);
}

/* When a client that does not read what waits for it has had its time, in ms. */
static uint64_t stalled(const struct client *client)
{
    if (client_writable(client) == 0)
        return UINT64_MAX;
    return client->active_at + client->ctx->conf->limits.body_timeout;
}

/* When one from which nothing has come has had its time, in ms. */
static uint64_t silent(const struct client *client)
{
    if (client->used || client->state != CLIENT_OPEN)
        return UINT64_MAX;
    return client->active_at + client->ctx->conf->limits.first_byte_timeout;
}

/* When the client's time is up, in ms, as things stand. */
static uint64_t due(const struct client *client)
{
    switch (client->state) {
    case CLIENT_OPEN:
        if (client->shut)
            return client->active_at + HALF_CLOSED_MS;
        break;
    case CLIENT_HALF_CLOSED: return client->active_at + HALF_CLOSED_MS;
    case CLIENT_LINGERING: return client->active_at + LINGER_MS;
    default: break;
    }
    uint64_t stalled_at = stalled(client);
    uint64_t guess_at = UINT64_MAX; /* when more may be started: no limit of the client's */
    if (UNLIKELY(client->guessed) && (client->paused || client->backlog))
        guess_at = ctx_now(client->ctx) + EXPECT_STEP_MS;
    if (stalled_at != UINT64_MAX && !client_is_duplex(client))
        return MIN(stalled_at, guess_at);
    return MIN(MIN(MIN(stalled_at, guess_at), silent(client)), client_session(client)->due(client));
}

/* Sees to it that the timer fires in time; that it may fire too early costs one look. */
static void arm(struct client *client)
{
    uint64_t at = due(client);
    if (at == UINT64_MAX)
        return;
    if (!wheel_armed(&client->timer) || at < client->timer.at)
        wheel_arm(&client->ctx->wheel, &client->timer, at);
}

void client_end(struct client *client)
{
    if (client->state < CLIENT_ENDING)
        client->state = CLIENT_ENDING;
    client_touch(client);
}

/* Gives bytes to the session, and on to the next where it changes. Returns what is left over. */
static size_t run(
    struct client *client, union codec_state *codec, char *p, size_t n, char **ret_rest)
{
    const struct session_ops *session;
    client->ctx->taken = 0;
    do {
        session = client_session(client);
        n = session->take(client, codec, p, n, &p);
        if (session != client_session(client))
            memset(codec, 0, sizeof(*codec));
    } while (session != client_session(client) && n > 0 && client_may_start(client));
    *ret_rest = p;
    if (client->yields || !client_may_start(client)) {
        client->paused = true; /* client_flush() goes on when it may */
        client_touch(client);
    }
    return client->last_request ? 0 : n; /* what follows the last request is not looked at */
}

/* Whether something is incomplete of which no byte is left. */
static bool midway(const struct client *client, const union codec_state *codec)
{
    const struct session_ops *session = client_session(client);
    return session->midway != NULL && session->midway(codec, client);
}

/* There is something in client->pending. */
static void put_aside(struct client *client)
{
    const struct session_ops *session = client_session(client);
    if (session->waiting != NULL)
        session->waiting(client);
}

/* Puts the rest of what was read aside. */
static void set_aside(
    struct client *client, const union codec_state *codec, const char *p, size_t n)
{
    struct pending *pending = mem_zalloc(sizeof(*pending));
    if (pending == NULL || buf_append(&pending->bytes, p, n) < 0) {
        mem_free(pending);
        client_doom(client);
        return;
    }
    pending->codec = *codec;
    client->pending = pending;
    start_clocks(client);
    put_aside(client);
}

/* Goes on with what was put aside. Returns whether what is left is another request's. */
static bool go_on(struct client *client)
{
    struct pending *pending = client->pending;
    char *rest;
    char *bytes = buf_data(&pending->bytes);
    size_t before = buf_len(&pending->bytes);
    size_t left = run(client, &pending->codec, bytes, before, &rest);
    if (left == 0 && !midway(client, &pending->codec)) {
        client_free_pending(client);
        return true;
    }
    size_t used = (size_t)(rest - bytes);
    buf_truncate(&pending->bytes, used + left);
    buf_consume(&pending->bytes, used);
    if (used > 0)
        start_clocks(client);
    put_aside(client);
    return used > 0;
}

/* No more may be started, but what is pending may have something behind it that need not wait. */
static void look_ahead(struct client *client)
{
    struct pending *pending = client->pending;
    const struct session_ops *session = client_session(client);
    if (session->ahead == NULL || pending == NULL)
        return;
    client->ctx->taken = 0;
    size_t left = session->ahead(
        client, &pending->codec, buf_data(&pending->bytes), buf_len(&pending->bytes));
    buf_truncate(&pending->bytes, left);
    if (left == 0 && !midway(client, &pending->codec))
        client_free_pending(client);
}

static void take_more(struct client *client, struct pending *pending, const char *p, size_t n)
{
    const struct session_ops *session = client_session(client);
    size_t before = session->gathered == NULL ? 0 : session->gathered(pending);
    pending->continue_owed = false; /* it did not wait for it */
    if (buf_append(&pending->bytes, p, n) < 0) {
        client_doom(client);
        return;
    }
    if (go_on(client) || client->pending != pending)
        return;
    session = client_session(client);
    if (session->gathered != NULL) {
        size_t now = session->gathered(pending);
        n = now > before ? now - before : 0;
    }
    pending->window_bytes += (uint32_t)n;
    if (n > 0)
        pending->heard = ctx_now(client->ctx);
}

static void take_bytes(struct client *client, char *p, size_t n)
{
    if (client->pending != NULL) {
        take_more(client, client->pending, p, n);
        return;
    }
    union codec_state codec;
    char *rest;
    memset(&codec, 0, sizeof(codec));
    size_t left = run(client, &codec, p, n, &rest);
    if (left > 0 || midway(client, &codec))
        set_aside(client, &codec, rest, left);
}

/* Whether what has been read of it is to be looked at before its end is. What is incomplete is,
 * too: its end may complete it. */
static bool has_more_to_start(const struct client *client)
{
    bool waits = client->paused || (client->pending != NULL && !client_may_start(client));
    return client->state == CLIENT_OPEN && waits && !client->last_request &&
           !client_session(client)->ends_at_once;
}

/* What it sent before its end may not be started yet: its end comes up once more when it has been.
 */
static void put_end_off(struct client *client)
{
    client->shut = true;
    client->active_at = ctx_now(client->ctx); /* HALF_CLOSED_MS count from here */
    client_touch(client);
}

/* The client sends no more: it may have shut its side only, or be gone. */
static void on_end_of_input(struct client *client)
{
    if (has_more_to_start(client)) {
        client->paused = true;
        client_touch(client);
        if (client_is_duplex(client) && !client_may_start(client))
            put_end_off(client);
        return; /* it comes up once more */
    }
    bool idle = list_empty(&client->requests) && client->pending == NULL &&
                client_waiting(client) == 0;
    if (client->state == CLIENT_LINGERING && client_unsent(client) > CLIENT_UNSENT_SMALL) {
        client->shut = true; /* client_timeout() looks how it reads the rest */
        client_touch(client);
        return;
    }
    if (idle && client->state < CLIENT_ENDING && !client_session(client)->ends_at_once) {
        client_leave(client);
        return;
    }
    if (client->state >= CLIENT_ENDING || idle || !client_session(client)->input_ended(client)) {
        client_doom(client);
        return;
    }
    if (client->state == CLIENT_OPEN)
        client->state = list_empty(&client->requests) ? CLIENT_ENDING : CLIENT_HALF_CLOSED;
    client->active_at = ctx_now(client->ctx); /* HALF_CLOSED_MS count from here */
    client_free_pending(client);
    client_touch(client);
}

static void on_readable(struct client *client)
{
    struct ctx *ctx = client->ctx;
    enum memory_level level = ctx_memory(ctx);
    if (UNLIKELY(level != MEMORY_EASY) && client->state == CLIENT_OPEN && !client->shut &&
        must_starve(client, level)) {
        client_touch(client); /* which stops reading */
        return;
    }
    client->fed = false;
    size_t room = CTX_READ_SIZE;
    if (client_is_duplex(client) && client->state == CLIENT_OPEN && !client_may_start(client))
        room = MIN(room, ahead_room(client));
    if (UNLIKELY(room == 0)) {
        client_touch(client); /* which stops reading */
        return;
    }
    ssize_t n = recv(client->fd, ctx->read_buf, room, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            client_doom(client); /* reset: nobody is there to be answered */
        return;
    }
    if (n == 0) {
        on_end_of_input(client);
        return;
    }
    client_set_used(client);
    if (client->state == CLIENT_LINGERING)
        return; /* dropped; active_at stays, so that this ends */
    if (client_waiting(client) == 0)
        client->active_at = ctx_now(ctx); /* else what counts is that it reads */
    take_bytes(client, ctx->read_buf, (size_t)n);
    arm(client);
}

/* The client sends no more, but is not read at present: what it sent before may wait unread. */
static void on_hang_up(struct client *client)
{
    if (client->last_request || client_session(client)->ends_at_once) {
        on_end_of_input(client);
        return;
    }
    put_end_off(client);
}

/*
 * Both directions are closed, and it is not read at present. No answer can reach it: it goes with
 * its calls. Only notifications that wait for a worker have the time that they have after the end
 * of the client's side, since such a client may have closed its socket right after them.
 */
static void on_closed_by_peer(struct client *client)
{
    if (client->state > CLIENT_HALF_CLOSED || client->ctx->requests_ops->awaited(client) ||
        client_session(client)->ends_at_once) {
        client_doom(client);
        return;
    }
    client->deserted = true;
    if (client->state == CLIENT_OPEN && !client->shut)
        on_hang_up(client);
    client_touch(client);
}

/* Returns whether nothing is left to be done with what the poller says of it. */
static bool is_over(struct client *client, uint32_t events)
{
    if (client->moving || client->arriving)
        wait_for(client, 0); /* whoever has it in the end will find the same */
    else if (events & EPOLLERR)
        client_doom(client);
    else
        return false;
    return true;
}

uint64_t client_ready(void *item, uint32_t events)
{
    struct client *client = item;
    if (is_over(client, events))
        return 0;
    if (events & EPOLLHUP && !(client->events & (EPOLLIN | EPOLLOUT))) {
        on_closed_by_peer(client);
        return 0;
    }
    if (events == EPOLLHUP)
        events = client->events; /* reading shows what has become of it, or writing soon does */
    if (client->yields && !(events & EPOLLRDHUP))
        return 0; /* what has been read of it comes first */
    if (events & EPOLLIN)
        on_readable(client);
    else if (events & EPOLLRDHUP)
        on_hang_up(client);
    return 0;
}

/*
 * The client has taken `n` bytes. It has body_timeout from now on; but where over write_buffer
 * waits, each byte gives it only the time that it takes at write_rate, so that one that reads more
 * slowly comes to its end, the sooner the slower it is.
 */
static void note_written(struct client *client, size_t n)
{
    uint64_t now = ctx_now(client->ctx);
    uint32_t rate = client->ctx->conf->limits.write_rate;
    if (LIKELY(!client->heavy) || rate == 0)
        client->active_at = now;
    else
        client->active_at = MIN(now, client->active_at + (uint64_t)n * 1000 / rate);
}

/* Returns false when the connection is broken. */
static bool write_out(struct client *client)
{
    struct iovec iov[1 + WRITE_PIECES];
    int pieces = 0;
    size_t own = buf_len(&client->out);
    ssize_t n;
    if (LIKELY(client->queue == NULL || client->held)) {
        n = send(client->fd, buf_data(&client->out), own, MSG_NOSIGNAL);
    } else {
        if (own > 0)
            iov[pieces++] = (struct iovec){buf_data(&client->out), own};
        pieces += message_queue_iov(client->queue, iov + pieces, WRITE_PIECES);
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)pieces};
        n = sendmsg(client->fd, &msg, MSG_NOSIGNAL);
    }
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    note_written(client, (size_t)n);
    client->bulky |= client->wrote || n > CLIENT_UNSENT_SMALL;
    client->wrote = true;
    size_t of_own = MIN((size_t)n, own);
    if (of_own > 0)
        buf_consume(&client->out, of_own);
    if ((size_t)n > of_own)
        message_queue_written(&client->queue, (size_t)n - of_own);
    bool heavy = client_waiting(client) > client->ctx->conf->limits.write_buffer;
    if (client->heavy && !heavy)
        client->active_at = ctx_now(client->ctx); /* it has caught up */
    client->heavy = heavy;
    return true;
}

bool client_write(struct client *client)
{
    if (client->state < CLIENT_DOOMED && client_writable(client) > 0 && !client->arriving &&
        !write_out(client))
        client_doom(client);
    return client->state < CLIENT_DOOMED;
}

uint64_t client_drained(void *item, uint32_t events)
{
    struct client *client = item;
    if (is_over(client, events))
        return 1;
    size_t before = client_waiting(client);
    client_touch(client); /* there may be room for more */
    client_write(client);
    return WORK_WRITE + ((before - client_waiting(client)) >> WORK_SHIFT);
}

/* The last answer is out. */
static void linger(struct client *client)
{
    if (shutdown(client->fd, SHUT_WR) < 0) {
        client_doom(client);
        return;
    }
    client->state = CLIENT_LINGERING;
    client->shut = false; /* its end, if it has come, is seen once more */
    client->active_at = ctx_now(client->ctx);
    client->unsent = client_unsent(client);
    client->late = 0;
    client_free_pending(client);
}

/* Whether what waits for one that has shut its side, if anything, is still on its way to it. */
static bool keeps_what_is_out(const struct client *client)
{
    return client_waiting(client) == 0 || (!client->held && stalled(client) > ctx_now(client->ctx));
}

/* It has shut its side, and had its time for what is in progress: what is out is left to it. */
static void give_up_calls(struct client *client)
{
    client->ctx->requests_ops->abandon(client);
    if (client_waiting(client) == 0) {
        client_leave(client);
        return;
    }
    client->last_request = true;
    client_end(client); /* it has body_timeout for the rest, as any other */
}

/* The next turn's end is the next time that it is flushed. */
static void queue_for_later(struct client *client)
{
    struct ctx *ctx = client->ctx;
    client->touched = client->later = true;
    client->dirty = NULL;
    *ctx->later_tail = client;
    ctx->later_tail = &client->dirty;
}

/* It has been taken out of the queue: what touches it from here on gives it another turn. */
static void go_on_held(struct client *client)
{
    const struct session_ops *session = client_session(client);
    if (session->go_on != NULL)
        session->go_on(client);
}

void client_flush(struct client *client)
{
    struct ctx *ctx = client->ctx;
    client->touched = false;
    if (client->later)
        client->later = client->yields = false;
    if (!client_blocked(client))
        client_write(client);
    if (client->state == CLIENT_ENDING && client_waiting(client) == 0 &&
        list_empty(&client->requests))
        linger(client);
    bool leaves = UNLIKELY(ctx->leaving) && client_can_move(client);
    if (UNLIKELY(client->backlog) && client->state < CLIENT_DOOMED)
        ctx->requests_ops->go_on(client);
    if (UNLIKELY(client->held) && client->state < CLIENT_ENDING)
        go_on_held(client);
    if (client->paused && !client->yields && !leaves && client_may_start(client)) {
        client->paused = false;
        if (client->pending != NULL)
            go_on(client);
    } else if (client->paused && !client->yields && !leaves) {
        look_ahead(client);
    }
    if (client->state == CLIENT_HALF_CLOSED && list_empty(&client->requests))
        client_end(client);
    if (client->state == CLIENT_DOOMED) {
        if (!client->touched) /* else it comes up once more in this turn */
            destroy(client);
        return;
    }
    wait_for_what_matters(client);
    arm(client);
    if (UNLIKELY(ctx->leaving) && client_can_move(client)) {
        client->yields = false;
        list_remove(&client->node);
        list_append(&ctx->quiet, &client->node);
    } else if (UNLIKELY(client->yields) && !client->touched) {
        queue_for_later(client);
    }
}

bool client_too_slow(struct client *client)
{
    uint64_t now = ctx_now(client->ctx);
    uint64_t timeout = client_body_timeout(client);
    struct pending *pending = client->pending;
    if (now - pending->heard >= timeout)
        return true;
    if (now - pending->window < timeout)
        return false;
    if (pending->window_bytes < BODY_RATE * (now - pending->window) / 1000)
        return true;
    pending->window = now;
    pending->window_bytes = 0;
    return false;
}

static void give_up(struct client *client)
{
    if (stalled(client) <= ctx_now(client->ctx))
        refusal_note(client, CLOSED_SLOW_READER);
    client_doom(client);
}

void client_timeout(struct wheel_timer *timer)
{
    struct client *client = container_of(timer, struct client, timer);
    uint64_t now = ctx_now(client->ctx);
    if (UNLIKELY(client->guessed)) {
        client->ctx->requests_ops->guess_again(client);
        client_touch(client); /* which starts what there is room for now */
    }
    size_t waiting = client_waiting(client);
    if (!client_write(client)) /* what came in this turn has not been offered to it yet */
        return;
    if (client_waiting(client) != waiting)
        client_touch(client); /* it may have been the last of it */
    bool ours = client->state != CLIENT_OPEN || client->shut || stalled(client) <= now ||
                silent(client) <= now;
    if (due(client) > now) {
        arm(client);
        return;
    }
    if (silent(client) <= now) {
        set_code(client, WS_CODE_POLICY);
        refusal_note(client, CLOSED_NO_BYTE);
    }
    bool ended = client->state == CLIENT_HALF_CLOSED || client->shut;
    if (client->state == CLIENT_LINGERING && client_reads_the_rest(client))
        ; /* it is looked at again */
    else if (client->state < CLIENT_ENDING && ended && keeps_what_is_out(client))
        give_up_calls(client);
    else if (ours)
        give_up(client);
    else
        client_session(client)->expire(client);
    client_touch(client); /* what comes next is armed when the turn ends */
}

static enum session_kind session_of(const struct conf_listener *listener)
{
    switch (listener->protocol) {
    case CONF_PROTOCOL_FRAME: return SESSION_FRAME;
    case CONF_PROTOCOL_LINE: return SESSION_LINE;
    default: return SESSION_HTTP1;
    }
}

int client_open(struct ctx *ctx, const struct conf_listener *listener, int fd,
    const struct sockaddr *peer, struct list *all)
{
    struct client *client = slab_get(&ctx->clients);
    if (client == NULL) {
        close(fd);
        return -ENOMEM;
    }
    client->ctx = ctx;
    client->listener = listener;
    client->fd = fd;
    client->conn.id = ids_next(&ctx->conn_ids);
    client->active_at = ctx_now(ctx);
    client->peer_family = (uint8_t)peer->sa_family;
    if (peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        memcpy(client->peer, &in->sin_addr, 4);
        client->peer_port = ntohs(in->sin_port);
    } else if (peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        memcpy(client->peer, &in6->sin6_addr, 16);
        client->peer_port = ntohs(in6->sin6_port);
    }
    list_init(&client->requests);
    list_init(&client->node);
    wheel_timer_init(&client->timer, TIMER_CLIENT);
    list_append(ctx->used == NULL ? all : &ctx->unused, &client->node);
    ctx->open++;
    share_count(&ctx->count->accepted, 1);
    client->session = (uint8_t)session_of(listener);
    const struct session_ops *session = client_session(client);
    if (session->open != NULL && session->open(client) < 0) {
        client_doom(client);
        return 0; /* the rest is done as for any other */
    }
    wait_for_what_matters(client);
    arm(client);
    return 0;
}

bool client_can_move(const struct client *client)
{
    return client->state < CLIENT_DOOMED && list_empty(&client->requests) && !client->held &&
           !client->touched && !client->kept;
}

void client_drain(struct client *client)
{
    if (client->moving || client->arriving)
        client->drain_later = true;
    else if (client->state == CLIENT_OPEN && !client->last_request)
        client_session(client)->drain(client);
}

struct client *client_find(struct ctx *ctx, uint64_t conn)
{
    struct idmap_node *node = idmap_find(&ctx->conns, conn);
    struct client *client = node == NULL ? NULL : container_of(node, struct client, conn);
    return client == NULL || client->moving ? NULL : client;
}

void client_peer_text(const struct client *client, char *out, size_t size)
{
    char address[INET6_ADDRSTRLEN];
    if (client->peer_family == AF_UNIX) {
        snprintf(out, size, "unix:");
        return;
    }
    inet_ntop(client->peer_family, client->peer, address, sizeof(address));
    snprintf(out, size, client->peer_family == AF_INET6 ? "[%s]:%u" : "%s:%u", address,
        client->peer_port);
}
