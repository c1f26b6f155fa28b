#pragma once

/*
 * A client connection: its descriptor, the bytes that wait in either direction, its timeouts, and
 * its requests in progress, which are answered in order (HTTP/1.1).
 */

#include "common/buf.h"
#include "frontd/shard/ctx.h"

struct request;
struct pending;

enum client_state {
    CLIENT_OPEN,
    CLIENT_HALF_CLOSED, /* it sends no more, but may wait for answers */
    CLIENT_ENDING,      /* the last answer is being written */
    CLIENT_LINGERING,   /* our side is shut; what it still sends is read and dropped */
    CLIENT_DOOMED,      /* to be closed at the end of the turn */
    CLIENT_CLOSED,      /* waits for libuv to let go of it */
};

struct client {
    uv_poll_t poll;
    struct wheel_timer timer; /* the earliest of its timeouts; armed lazily (client.c) */
    struct list node;         /* of all clients of the listener's list */
    struct list dirty;        /* in ctx->dirty_clients */
    struct list requests;     /* in progress, oldest first */
    struct ctx *ctx;
    const struct conf_listener *listener;
    struct pending *pending; /* of an incomplete request; NULL: none */
    struct buf out;          /* answers on their way */
    uint64_t id;             /* of the connection, never given twice */
    uint64_t active_at;      /* ms: last time anything moved */
    int fd;
    uint32_t calls;   /* in progress */
    uint8_t peer[16]; /* its address */
    uint16_t peer_port;
    uint8_t peer_family; /* AF_INET, AF_INET6, AF_UNIX */
    uint8_t state;       /* enum client_state */
    uint8_t events;      /* what the poll waits for */
    bool last_request;   /* nothing is read after the request in progress */
};
_Static_assert(sizeof(struct client) <= 368, "an idle connection costs at most 400 bytes");

/*
 * Takes over an accepted connection. fd: consumed, also on failure. Returns 0 or -ENOMEM.
 */
int client_open(struct ctx *ctx, const struct conf_listener *listener, int fd,
    const struct sockaddr *peer, struct list *all);

/* Drops everything and closes; its requests in progress are cancelled. At the end of the turn. */
void client_doom(struct client *client);

/*
 * An idle client goes at once, one with requests in progress after their answers, one that is in
 * the middle of a request after that.
 */
void client_drain(struct client *client);

/* Whether requests may still come from it. */
static inline bool client_may_ask(const struct client *client)
{
    return client->state == CLIENT_OPEN && !client->last_request;
}

/* At the end of a turn: writes what has gathered, reads on where that was paused. */
void client_flush(struct client *client);

/* Its wheel timer is due. */
void client_timeout(struct wheel_timer *timer);

/* For request.c */

/* Where a request's answer goes: straight out if it is the first one, else aside until it is. */
struct buf *client_reply_buffer(struct client *client, struct request *request);

/* The request's answer is complete. The request is gone afterwards. */
void client_reply_done(struct client *client, struct request *request);

/* The peer as text: "192.0.2.7:51412", "[2001:db8::1]:80", "unix:". */
void client_peer_text(const struct client *client, char *out, size_t size);
