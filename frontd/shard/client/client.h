#pragma once

/*
 * A client connection: its descriptor, the bytes that wait in either direction, its requests in
 * progress, its timer. What the bytes mean is decided by its session: HTTP/1.1, or messages on a
 * duplex connection (session.h).
 *
 *   client.c         opening, the end of a turn, the timer, closing
 *   client_in.c      reading: bytes to the session, what is pending, the end of input
 *   client_poll.c    what is waited for: whether it is read, which events are wanted
 *   client_out.c     writing: room for answers and pushes, what waits, the write itself
 *   client_end.c     ending: after the last byte, lingering, what the kernel still has
 *   client_proxy.c   the PROXY header with which a connection may begin
 *   client_tls.c     the end of its TLS handshake, and of its TLS
 *   client_freeze.c  moving to another process; its state is saved in handover/client_state.c
 */

#include "common/buf.h"
#include "common/peer.h"
#include "frontd/shard/client/session.h"
#include "frontd/shard/net/transport.h"

struct duplex;
struct http2;
struct tls_owner_ops;

/* An incomplete request or message: what has been read of it. */
struct pending {
    union codec_state codec;
    struct buf bytes;
    uint64_t started; /* ms: its first byte */
    uint64_t heard;   /* ms: its last byte so far */
    uint64_t window;  /* ms: since when `window_bytes` are counted */
    uint32_t window_bytes;
    bool continue_owed; /* HTTP: "100 Continue" is to be sent when it is this request's turn */
};

/* What a client calls upwards: its requests (request/request.c). */
struct requests_ops {
    /* All of them: their calls are cancelled, and they are freed. */
    void (*abandon)(struct client *client);
    /* Starts what waits of its batches, as far as there is room, oldest first. */
    void (*go_on)(struct client *client);
    /* Makes smaller what its calls claim by a guess, as far as more is known by now. */
    void (*guess_again)(struct client *client);
    /* Whether one of them waits for a worker's answer: not where all that is left are
     * notifications. */
    bool (*awaited)(const struct client *client);
    /* Bytes that are held for them, besides what is in the client's own buffers. */
    size_t (*hold)(const struct client *client);
    /* One that was parked (request/parked.h) goes on; it may end from within. */
    void (*unpark)(struct request *request, const struct http_head *head, struct span body);
};

/* The same, of clients with an answer that goes out part by part: ctx->parts_ops. */
struct parts_ops {
    /* Sends what of answers that go out part by part is gathered for more to come. */
    void (*flush)(struct client *client);
    /* Workers whose answers go out part by part may send more, as far as these have left. */
    void (*credit)(struct client *client);
    /* The connection is to go elsewhere: ends answers that the client can have continued there. */
    void (*leave)(struct client *client);
};

enum { CLIENT_BODY_RATE = 128 /* bytes a second that a body must come at, over body_timeout */ };

enum client_state {
    CLIENT_OPEN,
    CLIENT_HALF_CLOSED, /* it sends no more, but may wait for answers */
    CLIENT_ENDING,      /* the last answer is being written */
    CLIENT_LINGERING,   /* our side is shut; what it still sends is read and dropped */
    CLIENT_DOOMED,      /* to be closed at the end of the turn */
    CLIENT_CLOSED,      /* what it has is being freed */
    CLIENT_STATES,
};
_Static_assert(CLIENT_STATES <= 1 << 3, "client->state");

enum { CLIENT_ACTIVE_BITS = 40, CLIENT_OPENED_BITS = 23 };

/*
 * What is added here is carried to another process: see handover/client_state.c. Members are in the
 * order of how often they are looked at: what goes out to many clients in one turn waits for memory
 * above all, and finds what it needs in the first two cache lines of each.
 */
struct client {
    struct ctx *ctx;
    struct client *dirty;        /* the next of ctx->dirty_clients */
    struct buf out;              /* answers on their way */
    struct message_queue *queue; /* what follows `out`; NULL: nothing */
    union {
        struct duplex *duplex; /* what a duplex session has; NULL in those of HTTP/1 */
        struct http2 *http2;   /* SESSION_HTTP2 */
    };
    int fd;                /* -1: it is a stream of another client's connection */
    uint32_t calls : 18;   /* in progress, CONF_CALLS_MAX at most */
    uint32_t listener : 6; /* its index in ctx->conf->listeners: client_listener() */
    bool reads : 1;        /* it is read, as decided at the end of the last turn */
    bool blocked : 1;      /* it takes no more for now: what is to be written waits */
    bool uploads : 1;      /* HTTP/1: what it sends is the body of its youngest request, */
    bool upload_waits : 1; /* for which the worker has no room at present */
    uint32_t why : 4;      /* it ends: enum metric_reason, see client_because() */

    /* ms: last time anything moved; where it is `heavy`: see client_out.c. 40 bits are 34 years. */
    uint64_t active_at : CLIENT_ACTIVE_BITS;
    uint64_t opened : CLIENT_OPENED_BITS; /* when it was accepted: client_age() */
    bool proxied : 1; /* its peer is a proxy, whose connections are not counted by peer */
    union {
        uint32_t held_back; /* bytes of answers that are not in `out` yet: see client_holds() */
        uint32_t late; /* CLIENT_LINGERING, ms: it reads so much too slowly: see client_end.c */
    };
    uint16_t peer_port;
    uint16_t events : 14;    /* what ctx->poller waits for; 0: it does not know the client */
    bool streams : 1;        /* an answer goes out part by part: ctx->parts_ops */
    bool aborts : 1;         /* its end is no clean one: see client_abort() */
    uint8_t peer_family : 4; /* AF_INET, AF_INET6, AF_UNIX */
    uint8_t state : 3;       /* enum client_state */
    bool caught_up : 1;      /* arriving: it has been given what the journal has for it */
    uint8_t session : 3;     /* enum session_kind */
    bool last_request : 1;   /* nothing is read after the request in progress */
    bool paused : 1;         /* the session left bytes since it might not start a request */
    bool touched : 1;        /* it is one of ctx->dirty_clients, or must not become one */
    bool held : 1;           /* nothing is read until its session or its token is known */
    bool moving : 1;         /* frozen: its state is on the way to another process */
    bool arriving : 1;       /* restored, but it does not live yet */
    bool kept : 1;           /* it stays in this process: no other one takes it */
    bool drain_later : 1;    /* it is drained once it has been thawed or started */
    bool shut : 1;           /* the client sends no more; what it has sent may be unread */
    bool unread : 1;         /* reading is paused */
    bool used : 1;           /* something came from it, or a worker sent it something */
    bool deserted : 1;       /* the client's end is closed in both directions */
    bool starved : 1;        /* reading is paused since the shard is short of memory */
    bool fed : 1;            /* it may be read once though `starved`: see pressure.c */
    bool heavy : 1;          /* more than write_buffer waits for it */
    bool guessed : 1; /* `claimed` has guesses that become smaller: requests_ops.guess_again */
    bool backlog : 1; /* members of its batches wait to be started */
    bool wrote : 1;   /* something has been written to it */
    bool bulky : 1;   /* more than a little of it may still be in the kernel's buffer */
    /* Of one turn, and not carried: */
    bool yields : 1; /* it has had its share, and is read on in the next turn */
    bool later : 1;  /* it is one of ctx->later_clients */
    union {
        uint32_t claimed; /* bytes: what its calls have sent, and may be answered: see below */
        uint32_t unsent;  /* CLIENT_LINGERING: what the kernel still had when that was looked at */
    };
    struct list requests;     /* in progress, oldest first */
    struct wheel_timer timer; /* the earliest of its timeouts; armed lazily: client_arm() */

    struct pending *pending;     /* an incomplete request or message; NULL: none */
    struct transport *transport; /* owned; NULL: plain */
    struct list node;            /* of all clients of the listener's list, or of ctx->unused */
    struct idmap_node conn;      /* its id, never given twice; in ctx->conns while it is duplex */
    uint8_t peer[16];            /* the client's address, as far as is known: see client_peer() */
};
_Static_assert(sizeof(struct client) <= 192, "an idle connection costs at most 400 bytes");
_Static_assert(offsetof(struct client, pending) <= 128, "the rest is seldom looked at");
_Static_assert(CONF_LISTENERS_MAX <= 1 << 6, "client->listener");
_Static_assert(SESSIONS <= 1 << 3, "client->session");
_Static_assert(CONF_CALLS_MAX < 1 << 18, "client->calls");
_Static_assert(METRIC_REASON_CRASH <= 1 << 4, "client->why");

/*
 * The events that are waited for in every state: a reset (and, on a UNIX socket, the close of the
 * other end) is seen at once, whether the connection is read or not. The kernel reports both
 * unasked, but only for a descriptor that the poller has.
 */
enum { CLIENT_LOST = EPOLLERR | EPOLLHUP };

/* The session of a client: the table of what its bytes mean. */
static inline const struct session_ops *client_session(const struct client *client)
{
    return client->ctx->sessions[client->session];
}

/* The listener that has accepted the client. */
static inline const struct conf_listener *client_listener(const struct client *client)
{
    return &client->ctx->conf->listeners[client->listener];
}

/*
 * The client on whose connection this one is a stream, as a WebSocket over HTTP/2 is, and which has
 * not closed it yet; NULL: none. What such a client cannot do by itself is moving to another
 * process: it goes with its carrier.
 */
static inline struct client *client_carrier(const struct client *client)
{
    return LIKELY(client->fd >= 0) || client->transport == NULL
               ? NULL
               : client->transport->ops->carrier(client->transport);
}

/* The transport of the connection that the client is on; NULL: it is plain. */
static inline const struct transport *client_transport(const struct client *client)
{
    const struct client *carrier = client_carrier(client);
    if (LIKELY(client->fd >= 0))
        return client->transport;
    return carrier == NULL ? NULL : carrier->transport;
}

/* Calls each() for every client that this one carries: session->each_carried(). */
static inline bool client_each_carried(
    const struct client *client, bool (*each)(struct client *carried, void *arg), void *arg)
{
    const struct session_ops *session = client_session(client);
    return LIKELY(session->each_carried == NULL) || session->each_carried(client, each, arg);
}

/* Where connections of its listener are counted. */
static inline struct listener_words *client_counts(const struct client *client)
{
    return counts_listener(&client->ctx->counts, client->listener);
}

/* What it speaks, as that is counted: enum metric_protocol. */
static inline unsigned client_protocol(const struct client *client)
{
    switch (client->session) {
    case SESSION_WEBSOCKET: return METRIC_PROTOCOL_WEBSOCKET;
    case SESSION_HTTP2: return METRIC_PROTOCOL_HTTP2;
    default: return METRIC_PROTOCOL_FIRST;
    }
}

/* The one place where the session of a client that lives here changes. */
void client_set_session(struct client *client, enum session_kind session);

/* Notes why the connection is about to end, for the metrics, unless that is known already. By
 * default it is the client that ends it. It is not carried to another process: see
 * client_state.c. */
static inline void client_because(struct client *client, enum metric_reason reason)
{
    if (client->why == METRIC_REASON_CLIENT)
        client->why = reason & 15;
}

/* Whether the transport is not ready yet: the client has HTTP/1's session until it is, and nothing
 * comes or goes. */
static inline bool client_is_opening(const struct client *client)
{
    return UNLIKELY(client->transport != NULL) && client->transport->opening;
}

/* Whether workers push, and answers go out as soon as they are there, in any order: such a client
 * is in ctx->conns. */
static inline bool client_is_duplex(const struct client *client)
{
    return client->duplex != NULL && client->session != SESSION_HTTP2;
}

/* Whether answers go out in the order of the requests: HTTP/1's do. */
static inline bool client_keeps_order(const struct client *client)
{
    return client->duplex == NULL;
}

/* Life (client.c) */

/* For each state the states that may follow it, as bits. */
extern const uint8_t client_moves[CLIENT_STATES];

/* The one place where the state of a client changes. A move that is not in the table is a bug. */
static inline void client_set_state(struct client *client, enum client_state state)
{
    CHECK(client_moves[client->state] >> state & 1);
    client->state = (uint8_t)state;
}

/*
 * Takes over an accepted connection. listener: of ctx->conf. proxied: the listener trusts the peer
 * to tell of its clients (conf_trusts()), and it is not counted by peer. all: the list that it
 * joins where ctx->used says that unused ones are not kept apart. fd: consumed, also on failure.
 * Returns 0 or -ENOMEM.
 */
int client_open(struct ctx *ctx, const struct conf_listener *listener, int fd,
    const struct peer *peer, bool proxied, struct list *all);

/*
 * A client that the carrier carries; it counts as a connection, and has no transport yet, which is
 * to be set before the turn ends. told: who it is, as the carrier says, which is a proxy; NULL: the
 * same as the carrier. Returns 0 with *ret_client, or the status to refuse it with: 429 at
 * limits.connections_per_peer, 503 at limits.connections or without memory.
 */
unsigned client_open_carried(
    struct client *carrier, const struct peer *told, struct client **ret_client);

/*
 * The duplex connection of that id on this shard, or NULL. One that is frozen counts as one of
 * another process.
 */
struct client *client_find(struct ctx *ctx, uint64_t conn);

/* Queues the client, if it is not queued yet, for client_flush() at the end of this turn. */
void client_touch(struct client *client);

/* The end of a turn: what has gathered is written, and reading goes on where it was paused. */
void client_flush(struct client *client);

/* The client's wheel timer has expired: one of its timeouts may be due. */
void client_timeout(struct wheel_timer *timer);

/* client_set_used() for a client that was not. */
void client_become_used(struct client *client);

/*
 * Notes that something has come from the client, or that a worker has begun to use it: from now on
 * it may be silent, and is not closed to make room for others.
 */
static inline void client_set_used(struct client *client)
{
    if (UNLIKELY(!client->used))
        client_become_used(client);
}

/*
 * For how long the connection has been there, in whole seconds, over all processes that have had
 * it: up to 97 days, and then from 0 again. -1 where a version of the program that did not know
 * has accepted it.
 */
int64_t client_age(const struct client *client);

/* What client->opened is for a connection that is accepted at `now` ms; never 0. */
static inline uint32_t client_opened(uint64_t now)
{
    return (uint32_t)(now / 1000 % ((1U << CLIENT_OPENED_BITS) - 1)) + 1;
}

/*
 * Closes one of ctx->unused to make room for another connection. Returns whether it is gone
 * already; else it goes at the end of the turn. Not while the poller is busy.
 */
bool client_evict(struct client *client);

/*
 * Drains the client: an idle one is closed at once, one with requests in progress after their
 * answers, one in the middle of a request after the answer to that.
 */
void client_drain(struct client *client);

/* The connection is closed at the end of the turn; its requests in progress are cancelled. */
void client_doom(struct client *client);

/*
 * Who the client is: the other end of the connection; behind a proxy that has told of it with the
 * connection, or with the handshake of a WebSocket, who that has said. Requests of HTTP that have
 * come through a proxy have peers of their own: request_peer().
 */
struct peer client_peer(const struct client *client);

/* The same as text: peer_text(). */
void client_peer_text(const struct client *client, char out[static PEER_TEXT_SIZE]);

/*
 * The client of a connection that is `proxied` is that one: it is counted as such from now on,
 * unless it is itself a proxy whose requests say more. Returns false, with nothing changed, where
 * limits.connections_per_peer are open from there.
 */
bool client_set_peer(struct client *client, const struct peer *peer);

/* Reading (client_in.c) */

/*
 * What a connection can make this shard hold is bounded in two places:
 *
 * - Requests are started only while what waits for the client, what is held back, and what its
 *   calls in progress claim is together less than write_buffer; but one may always be in progress.
 *   A call claims the size of its frame and of the answer that is expected (expect.h); a batch
 *   claims the text of its members that wait, too.
 * - An answer is only held where client_fits() says so, whatever was expected of it.
 *
 * While no request may be started, a session with ahead() is read on, up to a message of
 * limits.body and what one read brings, so that what need not wait is found.
 */

/*
 * The function of ctx->poller: the connection is ready for `events`. Returns the units of work
 * done, as far as they count.
 */
uint64_t client_ready(void *client, uint32_t events);

/* Reads the PROXY header (client_proxy.c). */
extern const struct session_ops proxy_session;

/* Whether a new request may be started. (While ctx->requests_paused, no second one is.) */
bool client_may_start(const struct client *client);

/* Whether the next request or message is to be taken up in this turn: asked once for each. */
bool client_takes(struct client *client);

/* Whether ahead() may take one more out in this turn; if not, it goes on in the next one. */
bool client_answers_ahead(struct client *client);

/* Whether the client is read, as decided at the end of the last turn. */
static inline bool client_is_read(const struct client *client)
{
    return client->reads;
}

/* Whether workers may still hear of the client: a request, or that it has gone. */
static inline bool client_may_ask(const struct client *client)
{
    return client_is_duplex(client) || client->backlog ||
           (client->state == CLIENT_OPEN && !client->last_request);
}

/* Drops the incomplete request. */
void client_free_pending(struct client *client);

/*
 * Whether the body of an incomplete request or message (client->pending) comes too slowly: nothing
 * for client_body_timeout(), or less than 128 bytes a second over that time.
 */
bool client_too_slow(struct client *client);

/*
 * How long a body may make no progress, in ms. A client that is not read for want of memory has
 * twice that: the pause is not its fault, but it does hold memory.
 */
static inline uint64_t client_body_timeout(const struct client *client)
{
    uint64_t timeout = client->ctx->conf->limits.body_timeout;
    return client->starved ? timeout * 2 : timeout;
}

/* When client_too_slow() is to be asked next about client->pending, in ms. */
static inline uint64_t client_pending_due(const struct client *client)
{
    return MIN(client->pending->heard, client->pending->window) + client_body_timeout(client);
}

/* Writing (client_out.c) */

/* Bytes that the transport has taken, and the kernel has not; 0 on a plain connection. */
static inline size_t client_sealed(const struct client *client)
{
    return LIKELY(client->transport == NULL) ? 0 : client->transport->unsent;
}

/* What waits to be written, in bytes and as write_buffer counts it; 0: nothing. */
static inline size_t client_waiting(const struct client *client)
{
    return buf_len(&client->out) + (client->queue == NULL ? 0 : message_queue_cost(client->queue)) +
           client_sealed(client);
}

/*
 * The part of client_waiting() that is a message larger than write_buffer by itself and is written
 * next; 0: there is none. Pushes that follow it are not held against the client: its size says
 * nothing of whether the client reads. push: only where the message is itself a push.
 */
size_t client_large(const struct client *client, bool push);

/* The part of client_waiting() that may be written now: pushes for a held client wait. */
static inline size_t client_writable(const struct client *client)
{
    return client->held ? buf_len(&client->out) + client_sealed(client) : client_waiting(client);
}

/* Whether the socket takes no more for now. */
static inline bool client_blocked(const struct client *client)
{
    return client->blocked;
}

/*
 * Whether an answer of `n` bytes may be held for the client, after what waits has been written as
 * far as it goes: at most write_buffer is held besides it, or it is a small one that leaves at
 * once. Where not, the call gets an error instead.
 *
 * own: bytes that are held back already and belong to the answer, as to a batch's.
 * at_once: the answer goes out, or behind what goes out, and does not wait for other calls.
 */
bool client_fits(struct client *client, size_t n, size_t own, bool at_once);

/* Whether what waits for the client leaves room for an answer that no worker was asked for. */
bool client_has_space(const struct client *client);

/*
 * Bytes that are held for the client in this process, or that its calls in progress have sent: by
 * this the client that goes first when memory is short is chosen. Looks at every call and topic.
 */
size_t client_holds(const struct client *client);

/*
 * Room for `n` bytes that go out after what waits already, valid until the next call for this
 * client; NULL, with the client doomed, when there is no memory.
 */
char *client_room(struct client *client, size_t n);

/* Puts a shared message after what waits; the caller keeps its reference. 0 or -ENOMEM. */
int client_add_message(struct client *client, struct message *message);

/* Writes now what can be written. Returns false when the connection is broken (and doomed). */
bool client_write(struct client *client);

/* The function of ctx->writers: the socket has room again. Returns the units of work done. */
uint64_t client_drained(void *client, uint32_t events);

/* Transports (client_tls.c) */

/* What becomes of clients in their TLS handshakes: for tls_init(). */
extern const struct tls_owner_ops client_tls_ops;

/* Ending (client_end.c) */

/* Ends the connection once everything is written. */
void client_end(struct client *client);

/*
 * Ends a client that has nothing in progress and nothing that waits: at once, or, where the kernel
 * still has much of what was written, when the peer has read that.
 */
void client_leave(struct client *client);

/* Ends the connection at once in such a way that it is not taken for the end of what was being
 * sent: by a reset, where it is TCP, and without close_notify. */
void client_abort(struct client *client);

/*
 * Moving to another process (client_freeze.c, handover/client_state.c)
 *
 * The old side freezes a client that can move, saves it and sends the state with the descriptor;
 * then it is either released, because it was taken, or thawed. The new side restores it, and either
 * starts it or discards it. A client that is frozen or only restored is not read, written or timed,
 * and in no queue of the turn's end; before the loop ends it is thawed, released, started or
 * discarded.
 */

/*
 * Whether nothing of the client is in progress that could not be carried: no request, no worker
 * that is asked, no transport that cannot move, not doomed. Unwritten bytes, an incomplete request
 * or message, and an end under way are carried. False, until the end of the turn, where something
 * is still to be done in it.
 */
bool client_can_move(const struct client *client);

/* Whether what it writes is sealed with keys, which only one process may use: see
 * handover/message.h. Every transport counts as one that has keys. */
static inline bool client_has_keys(const struct client *client)
{
    return client->transport != NULL;
}

/* Freezes it, after client_can_move(). What is pushed to it from now on is another process's. */
void client_freeze(struct client *client);

/*
 * The client was not taken: it goes on as before, from the end of the turn on, and is drained or
 * closed where that was wanted meanwhile. It may be offered again while ctx->leaving.
 */
void client_thaw(struct client *client);

/* As client_thaw(), but for good: client_can_move() is false from now on. */
void client_keep(struct client *client);

/*
 * The client was taken: everything of it is freed, its descriptor closed without shutting the
 * connection down. Workers are not told: the connection lives on.
 */
void client_release(struct client *client);

/* About how many bytes the client's state has: more where much of it is rounded. */
size_t client_state_size(const struct client *client);

/*
 * Appends the client's state. May be called whenever client_can_move() would be true, or while it
 * is frozen. Returns 0, or -ENOMEM with `out` as it was.
 */
int client_save(const struct client *client, struct buf *out);

/*
 * What the journal has is for this client from now on, or not any more; and for those that it
 * carries. caught_up: it has been given all of it.
 */
void client_set_arriving(struct client *client, bool arriving);
void client_set_caught_up(struct client *client);

/*
 * Makes a client of a saved state, under this process's config: counted as a connection (limits do
 * not apply to one that is in already), known by its id and in its topics, but not alive. What is
 * pushed to it meanwhile is written once it is started. A transport is one of ctx->transport.
 *
 * all: the list it joins. fd: its connection; consumed on success, else still the caller's.
 * Returns 0 with *ret_client; -ENOTSUP (a version or section that this program does not know, or a
 * listener or route that is not in this config or serves something else there), -EBADMSG (no state
 * of a client), -ENOMEM: nothing is left then.
 */
int client_restore(
    struct ctx *ctx, struct list *all, int fd, struct span state, struct client **ret_client);

/*
 * The same for one that another client carries, from within the restoring of that: its list and its
 * transport are to be set.
 */
int client_restore_carried(
    const struct client *carrier, struct span state, struct client **ret_client);

/* Frees a restored client that is not wanted after all; the descriptor is the caller's again. */
void client_discard(struct client *client);

/*
 * A restored client begins to live, from the end of the turn on. Where this process drains already,
 * it is drained at once.
 */
void client_start(struct client *client);

/* For client_freeze.c and handover/client_state.c (client.c): */

/* Counts the client as a connection of this shard, whatever the limits are. */
void client_count(struct client *client);

/* Frees all that the client has. It itself is left, and its descriptor, which is not polled. */
void client_strip(struct client *client);

/*
 * client_strip(); then the client is taken from the counts and freed. Its descriptor is left. Not
 * while the poller is busy.
 */
void client_dispose(struct client *client);
