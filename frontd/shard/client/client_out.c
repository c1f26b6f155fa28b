/*
 * Writing: answers gather in client->out, shared messages (and what comes after them) in
 * client->queue; client_flush() writes both once a turn. What the socket does not take waits until
 * ctx->writers says that there is room (client_drained()).
 */

#include <errno.h>
#include <sys/socket.h>

#include "frontd/shard/client/client_internal.h"

enum {
    SMALL_PART = 2,    /* of write_buffer: up to this an answer goes out, whatever is held */
    OUT_SMALL = 4096,  /* bytes: an answer that is held even where memory is out */
    WRITE_PIECES = 64, /* of a message queue in one write */
};

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

/* The bytes that an answer has to wait for; a large push may wait besides. */
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

size_t client_buffered(const struct client *client)
{
    size_t session = client->session == SESSION_HTTP2 ? client_session(client)->holds(client) : 0;
    return session + client->out.size +
           (client->queue == NULL ? 0 : message_queue_cost(client->queue)) +
           (client->pending == NULL ? 0 : client->pending->bytes.size) + client_sealed(client);
}

size_t client_holds(const struct client *client)
{
    size_t n = client_buffered(client);
    if (client_is_duplex(client))
        n += client_session(client)->holds(client);
    else if (client->session == SESSION_HTTP2)
        n += client_session(client)->holds_back(client);
    return n + client->ctx->requests_ops->hold(client);
}

char *client_room(struct client *client, size_t n)
{
    char *room = NULL;
    client_touch(client);
    /* A large answer is a message of its own: client_large() is asked about it for each push. */
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

uint64_t client_stalled_at(const struct client *client)
{
    if (client_writable(client) == 0)
        return UINT64_MAX;
    return client->active_at + client->ctx->conf->limits.body_timeout;
}

/*
 * The client has taken `n` bytes, and has body_timeout from now on. Where more than write_buffer
 * waits, each byte gives it only the time that the byte takes at write_rate: a client that reads
 * more slowly is closed, the sooner the slower it is.
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

/* Hands it to the transport. Returns as writev(), 0 for EAGAIN; *ret_gone: bytes that are out. */
static ssize_t write_through(
    const struct client *client, const struct iovec *iov, int pieces, size_t *ret_gone)
{
    struct transport *transport = client->transport;
    size_t before = transport->unsent;
    ssize_t n = transport->ops->writev(transport, client->fd, iov, pieces);
    size_t all = before + (size_t)MAX(n, (ssize_t)0);
    *ret_gone = all - MIN(all, (size_t)transport->unsent);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

/* Returns false when the connection is broken. */
static bool write_out(struct client *client)
{
    struct iovec iov[1 + WRITE_PIECES];
    int pieces = 0;
    size_t own = buf_len(&client->out);
    size_t gone = 0;
    ssize_t n;
    struct transport *transport = client->transport;
    /* The keys of a frozen client may be another process's. */
    CHECK(LIKELY(transport == NULL) || !client->moving);
    bool queued = client->queue != NULL && !client->held;
    if (LIKELY(!queued && transport == NULL)) {
        n = send(client->fd, buf_data(&client->out), own, MSG_NOSIGNAL);
    } else {
        if (own > 0)
            iov[pieces++] = (struct iovec){buf_data(&client->out), own};
        if (queued)
            pieces += message_queue_iov(client->queue, iov + pieces, WRITE_PIECES);
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)pieces};
        n = transport == NULL ? sendmsg(client->fd, &msg, MSG_NOSIGNAL)
                              : write_through(client, iov, pieces, &gone);
    }
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (LIKELY(transport == NULL))
        gone = (size_t)n;
    if (LIKELY(gone > 0) && !client_is_opening(client))
        note_written(client, gone);
    if (LIKELY(client->fd >= 0)) /* else they are sent by the client that carries it */
        share_count(client_counts(client)->sent, (uint64_t)n);
    client->bulky |= (client->wrote && n > 0) || n > CLIENT_UNSENT_SMALL;
    client->wrote |= n > 0; /* not by a transport's handshake */
    size_t of_own = MIN((size_t)n, own);
    if (of_own > 0)
        buf_consume(&client->out, of_own);
    if ((size_t)n > of_own)
        message_queue_written(&client->queue, (size_t)n - of_own);
    bool heavy = client_waiting(client) > client->ctx->conf->limits.write_buffer;
    if (client->heavy && !heavy)
        client->active_at = ctx_now(client->ctx); /* from here on it has body_timeout again */
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
    if (client_is_over(client, events))
        return 1;
    size_t before = client_waiting(client);
    client_touch(client); /* more may be started when this is out */
    if (UNLIKELY(client->transport != NULL))
        client_try_transport(client);
    else
        client_write(client);
    size_t after = client_waiting(client);
    return WORK_WRITE + ((before - MIN(before, after)) >> WORK_SHIFT);
}
