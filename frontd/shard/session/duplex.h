#pragma once

/*
 * Duplex connections, which exchange messages: WebSocket, frames and lines on plain TCP. Requests
 * are answered as their answers come, and workers push (protocol section 9). Each protocol has its
 * own struct session_ops, in websocket.c and framed_session.c; what they share is here.
 *
 *   duplex.c        life: begin, be let in, messages, close
 *   duplex_push.c   what workers push, and clients that read too slowly
 *   duplex_write.c  encoding
 *   duplex_state.c  moving to another process
 */

#include "frontd/shard/client/client.h"
#include "frontd/shard/push/topics.h"

enum {
    DUPLEX_PINGS_MAX = 3, /* without a sign of life */
};

/* What is added here is carried to another process: see duplex_state.c. */
struct duplex {
    const struct conf_route *route;
    struct subscription *subscriptions;
    struct claims *claims;     /* of the token of its handshake; NULL: none was asked for */
    struct affinity *affinity; /* the worker that it is bound to; NULL: it is to none */
    char *headers;       /* JSON object of those the route asks for, for the context; NULL: none */
    uint64_t heard_at;   /* ms: last sign of life */
    uint32_t dropped;    /* pushes that were dropped, since the client reads too slowly */
    uint16_t code;       /* WebSocket close code, for frontd.disconnect; 0: none yet */
    uint8_t deflate;     /* WebSocket: struct ws_deflate.bits; 0: messages are not compressed */
    uint8_t pings : 2;   /* Pings sent since the last sign of life */
    bool announced : 1;  /* workers may know of it: frontd.disconnect will follow */
    bool close_sent : 1; /* WebSocket: our Close frame is out */
    bool canary : 1;     /* its calls are for the canary of its route */
    bool draining : 1;   /* it is closed when its calls have ended */
    /* WebSocket: the client's Close has come behind messages that wait: no call among these is
     * started. Not carried: another process finds the Close there as well. */
    bool close_follows : 1;
};
_Static_assert(sizeof(struct duplex) <= 56, "an idle WebSocket costs at most 450 bytes");

extern const struct session_ops websocket_session;
extern const struct session_ops frame_session;
extern const struct session_ops line_session;

/* Makes a client a duplex connection of that kind, on that route. head: of its handshake; NULL:
 * there was none. Returns 0 or -ENOMEM. */
int duplex_begin(struct client *client, const struct conf_route *route, enum session_kind kind,
    const struct http_head *head);

/* Tells workers of the connection. head: of its handshake; NULL: there was none. */
void duplex_announce(struct client *client, const struct http_head *head);

/*
 * Asks a worker whether the connection is let in; until the answer is there nothing is read. head:
 * as above.
 */
void duplex_ask(struct request *request, const struct http_head *head);

/* The connection is let in: what its request has ready goes out, and the request ends. */
void duplex_let_in(struct request *request);

/*
 * Closes the connection because the front ends (1001), or because this process ends and no other
 * one takes the connection over (1012), or for what has set the code 1012 before.
 */
void duplex_say_goodbye(struct client *client);

/*
 * A text (or, binary, anything) encoded for a kind of connection, to be shared. push: it may be
 * dropped for a slow consumer. A line's line ends become spaces. NULL when there is no memory.
 */
struct message *duplex_encode(enum session_kind kind, struct span payload, bool binary, bool push);

/* The same for one WebSocket or others like it: compressed where that was agreed on and pays. */
struct message *duplex_encode_for(
    struct client *client, struct span payload, bool binary, bool push);

/* How many bytes of an encoded message are not framing. */
size_t duplex_payload(enum session_kind kind, const struct message *message);

/* Has the kernel look for signs of life, at the route's `ping` interval. */
void duplex_set_keep_alive(const struct client *client);

/* For the sessions */

/* Takes a complete message. */
void duplex_message(struct client *client, struct span payload, bool binary);

/* The client has made an error: it is told the code, and nothing more is read. */
void duplex_fail(struct client *client, unsigned code);

/* duplex_fail() where an incomplete message has had its time. Returns whether it has. */
bool duplex_message_expired(struct client *client);

/* These go out after what waits; the client is doomed where there is no memory. */

/* A text, in the connection's framing, compressed where that was agreed on and pays. */
void duplex_send_text(struct client *client, struct span payload);

/* WebSocket: a Ping or Pong. payload: at most WS_CONTROL_MAX bytes. */
void duplex_send_control(struct client *client, enum ws_opcode opcode, struct span payload);

/* WebSocket: our Close frame. */
void duplex_send_close(struct client *client, unsigned code, struct span reason);

/* Functions of struct session_ops that the sessions have in common */

void duplex_resumed(struct client *client);
void duplex_drain(struct client *client);
void duplex_reply(struct request *request, const struct reply *reply);
enum metric_code duplex_asked(struct request *request, const struct outcome *outcome);
void duplex_gone(struct client *client);
const struct conf_route *duplex_route(const struct client *client);
struct span duplex_headers(const struct client *client);
const struct claims *duplex_claims(const struct client *client);
struct subscription **duplex_subscriptions(struct client *client);
bool duplex_canary(const struct client *client);
struct affinity **duplex_affinity(const struct client *client);
/* A connection that a worker is still asked about is turned away: it is no duplex connection
 * afterwards, and has left its topics. */
void duplex_close(struct client *client, unsigned code, struct span reason);
void duplex_set_code(struct client *client, unsigned code);
size_t duplex_holds(const struct client *client);
/* duplex_push.c: */
void duplex_deliver(struct client *client, struct shared *shared);
void duplex_yield(struct client *client);
/* duplex_state.c: */
void duplex_save(const struct client *client, struct pack *pack);
int duplex_restore(struct client *client, struct unpack *unpack);
void duplex_forget(struct client *client);
/* What was agreed on of permessage-deflate. Returns 0, or -EBADMSG. */
void duplex_save_deflate(const struct client *client, struct pack *pack);
int duplex_restore_deflate(struct client *client, struct unpack *unpack);
/* What the token of the handshake says. Returns 0, or -errno. */
void duplex_save_claims(const struct client *client, struct pack *pack);
int duplex_restore_claims(struct client *client, struct unpack *unpack);
