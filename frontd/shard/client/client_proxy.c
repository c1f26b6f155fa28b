/*
 * A connection that a proxy has made begins with a header that tells of the client
 * (`proxy_protocol`, codec/proxy_protocol.h). Until it is there, the connection has a session of
 * its own: client_read_header() takes what has come of it → it is complete: client_set_peer() →
 * client_begin(): what follows is for the transport and the session of the listener's protocol.
 *
 * The bytes are looked at before they are taken out of the socket (MSG_PEEK), and only those of the
 * header are. Those of one that is incomplete are kept in client->pending, and travel with it.
 *
 * Nothing of the header makes the connection used: where more connections are wanted than there may
 * be, it is closed for another one as if nothing had come. It ends where the header is wrong, where
 * it has not come in first_byte_timeout, and where connections_per_peer are open from the client.
 */

#include <errno.h>
#include <sys/socket.h>

#include "common/alloc.h"
#include "frontd/codec/proxy_protocol.h"
#include "frontd/shard/client/client_internal.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/net/incident.h"

_Static_assert((int)PROXY_HEADER_MAX <= (int)CTX_READ_SIZE, "a header fits into ctx->read_buf");

/* Copies what has come of the header before to ctx->read_buf, and the bytes that wait behind it.
 * Returns how many these are, as recv() does. */
static ssize_t peek(struct client *client, size_t *ret_before)
{
    char *room = client->ctx->read_buf;
    size_t before = client->pending == NULL ? 0 : buf_len(&client->pending->bytes);
    if (before > 0)
        memcpy(room, buf_data(&client->pending->bytes), before);
    *ret_before = before;
    return recv(client->fd, room + before, PROXY_HEADER_MAX - before, MSG_PEEK);
}

/* Keeps bytes of a header that is incomplete. */
static void keep(struct client *client, const char *p, size_t n)
{
    if (client->pending == NULL) {
        client->pending = mem_zalloc(sizeof(*client->pending));
        if (client->pending != NULL)
            client_start_clocks(client);
    }
    if (client->pending == NULL || buf_append(&client->pending->bytes, p, n) < 0)
        client_doom(client);
}

static void take_header(struct client *client, const struct proxy_header *header)
{
    const struct conf_listener *listener = client_listener(client);
    client_free_pending(client);
    client_set_unused(client);
    if (header->client.family != 0 && !conf_admits(&listener->access, &header->client)) {
        refusal_note_peer(client->ctx, listener, &header->client, REFUSED_ADDRESS);
        client_doom(client);
        return;
    }
    if (header->client.family != 0 && !client_set_peer(client, &header->client)) {
        refusal_note_peer(client->ctx, listener, &header->client, REFUSED_PEER_LIMIT);
        client_doom(client);
        return;
    }
    client_begin(client);
    client_touch(client); /* what it waits for, and until when, is another thing now */
}

void client_read_header(struct client *client)
{
    char *bytes = client->ctx->read_buf;
    struct proxy_header header;
    size_t before;
    ssize_t n = peek(client, &before);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        client_doom(client); /* a proxy that only looks whether somebody listens, say */
        return;
    }
    enum proxy_result result = proxy_protocol_parse(bytes, before + (size_t)n, &header);
    if (result == PROXY_WRONG) {
        incident_show(client->ctx, INCIDENT_FRAMES, (struct span){bytes, before + (size_t)n});
        refusal_note(client, REFUSED_HEADER);
        incident_hide(client->ctx);
        client_doom(client);
        return;
    }
    size_t new = result == PROXY_HEADER ? header.used - before : (size_t)n;
    n = recv(client->fd, bytes + before, new, 0);
    if (n <= 0)
        client_doom(client);
    else if (result == PROXY_HEADER && (size_t)n == new)
        take_header(client, &header);
    else
        keep(client, bytes + before, (size_t)n);
}

static bool input_ended(struct client *client)
{
    (void)client;
    return false;
}

static uint64_t due(const struct client *client)
{
    return client->active_at + client->ctx->conf->limits.first_byte_timeout;
}

static void expire(struct client *client)
{
    refusal_note(client, CLOSED_NO_HEADER);
    client_doom(client);
}

static void drain(struct client *client)
{
    client_doom(client);
}

static void gone(struct client *client)
{
    (void)client;
}

/* It has no requests, and its bytes are read by client_read_header(). What has come of the header
 * is saved by handover/client_state.c, since there is no more to it. */
const struct session_ops proxy_session = {
    .ends_at_once = true,
    .input_ended = input_ended,
    .due = due,
    .expire = expire,
    .drain = drain,
    .gone = gone,
};
