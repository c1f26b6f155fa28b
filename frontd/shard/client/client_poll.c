/*
 * What is waited for: whether a client is read, and which events of its connection are wanted.
 *
 * Reading pauses for two reasons: no request may be started (`unread`), and the session answers
 * nothing ahead; or memory is short, and the client holds much (`starved`).
 *
 * The poller has every connection until it is closed, also while no event of it is waited for: a
 * reset is seen at once (CLIENT_LOST). Two kinds of connections are taken out, since they would be
 * reported in vain in each turn: those that are `deserted`, and those on their way to another
 * process. A connection whose socket is full is in ctx->writers as well, of which only so many are
 * written to in a turn: a thousand that read slowly do not hold up what others send.
 */

#include "common/log.h"
#include "frontd/shard/client/client_internal.h"

/* Tells the session that the client is read again. */
static void tell_resumed(struct client *client)
{
    const struct session_ops *session = client_session(client);
    struct transport *transport = client->transport;
    if (session->resumed != NULL)
        session->resumed(client);
    if (UNLIKELY(transport != NULL) && transport->ops->resumed != NULL)
        transport->ops->resumed(transport);
}

void client_set_starved(struct client *client, bool starved)
{
    if (LIKELY(client->starved == starved))
        return;
    client->starved = starved;
    client->ctx->memory.unread += starved ? 1U : -1U;
    if (!starved)
        tell_resumed(client);
}

/* Timeouts of what is pending begin anew when reading goes on: the pause was the shard's. */
static void set_unread(struct client *client, bool unread)
{
    bool again = client->unread && !unread;
    client->unread = unread;
    if (again && client->pending != NULL)
        client_start_clocks(client);
    if (again)
        tell_resumed(client);
}

/* Whether the client holds more than is allowed while it is read at that level of memory. */
static bool holds_much(const struct client *client, enum memory_level level)
{
    return client_buffered(client) + client->held_back + (client->calls > 0 ? client->claimed : 0) >
           memory_little(level);
}

bool client_must_starve(const struct client *client, enum memory_level level)
{
    if (client->fed && level < MEMORY_SHORT)
        return false;
    return holds_much(client, level) || (level >= MEMORY_SHORT && client_is_duplex(client) &&
                                            client_session(client)->route(client)->raw);
}

size_t client_ahead_room(const struct client *client)
{
    size_t limit = (size_t)client->ctx->conf->limits.body + CTX_READ_SIZE;
    size_t used = client->pending == NULL ? 0 : buf_len(&client->pending->bytes);
    if (client_session(client)->ahead == NULL || client->state != CLIENT_OPEN ||
        client->last_request || client->held || client->shut || used >= limit)
        return 0;
    if (UNLIKELY(client->transport != NULL) && limit - used < TRANSPORT_ROOM_MIN)
        return 0;
    return limit - used;
}

/* The events of the descriptor that the transport wants, where its user wants `events`. */
static uint16_t wanted_of(const struct transport *transport, uint16_t events)
{
    const uint16_t both = EPOLLIN | EPOLLOUT;
    uint32_t wanted = events & both ? transport->ops->wants(transport, events & both) : 0;
    return (uint16_t)((events & ~both) | (wanted & both));
}

void client_set_events(struct client *client, uint16_t events)
{
    static struct log_limit limit;
    struct ctx *ctx = client->ctx;
    const uint32_t out = EPOLLOUT;
    int fd = client->fd;
    client->reads = (events & EPOLLIN) != 0;
    client->blocked = (events & EPOLLOUT) != 0;
    if (UNLIKELY(fd < 0)) {
        client->events = events; /* its carrier tells what comes, */
        client->blocked = false; /* and its transport what cannot be written now */
        return;
    }
    if (UNLIKELY(client->transport != NULL))
        events = wanted_of(client->transport, events);
    int r = poller_set(&ctx->poller, fd, client->events & ~out, events & ~out, client);
    if (UNLIKELY(((client->events ^ events) & out) != 0) && r == 0) {
        uint32_t before = client->events & out;
        client->events = (uint16_t)(before | (events & ~out)); /* so far it is done */
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

void client_choose_events(struct client *client)
{
    enum memory_level level = client->ctx->memory.level;
    bool read = client_may_start(client) || (client->state == CLIENT_LINGERING && !client->shut);
    set_unread(client, !read);
    read = read || client_ahead_room(client) > 0;
    /* A client that sends no more is read to its end: it is closed then. */
    client_set_starved(client, UNLIKELY(level != MEMORY_EASY) && read && !client->shut &&
                                   client->state == CLIENT_OPEN &&
                                   client_must_starve(client, level));
    read = read && !client->starved;
    bool write = client_writable(client) > 0;
    /* A client that is not read, but waits for an answer, may hang up: see on_hang_up(). */
    bool leaves = client->state == CLIENT_OPEN && !read && !client->shut;
    uint16_t events = (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0) | (leaves ? EPOLLRDHUP : 0);
    if (UNLIKELY(read && !client_is_read(client)))
        tell_resumed(client);
    bool told = client->deserted || (client->state == CLIENT_LINGERING && client->shut);
    client_set_events(client, told && !read ? 0 : events | CLIENT_LOST);
}

bool client_is_over(struct client *client, uint32_t events)
{
    if (client->moving || client->arriving)
        client_set_events(client, 0); /* the process that has it in the end finds the same */
    else if (events & EPOLLERR || (events & EPOLLHUP && client_is_opening(client)))
        client_doom(client);
    else
        return false;
    return true;
}
