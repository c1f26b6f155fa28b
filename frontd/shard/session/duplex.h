#pragma once

/*
 * Connections that stay and exchange messages: WebSocket, frames and lines on plain TCP. Requests
 * are answered as their answers come, and workers push (protocol section 9).
 */

#include "common/idmap.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/push/topics.h"

struct outcome;

enum stay_kind { STAY_WEBSOCKET, STAY_FRAME, STAY_LINE, STAY_KINDS };

/* What is added here is carried to another process: see stay_save.c. */
struct stay {
    const struct conf_route *route;
    struct subscription *subscriptions;
    char *headers;       /* JSON object of those the route asks for, for meta; NULL: none */
    uint64_t heard_at;   /* ms: last sign of life */
    uint32_t dropped;    /* pushes, since it reads too slowly */
    uint16_t code;       /* WebSocket close code, for frontd.disconnect; 0: none yet */
    uint8_t kind;        /* enum stay_kind */
    uint8_t pings : 2;   /* sent since the last sign of life */
    bool announced : 1;  /* workers may know of it: frontd.disconnect will follow */
    bool close_sent : 1; /* WebSocket: our Close frame is out */
    bool draining : 1;   /* it is closed when its calls have ended */
};
_Static_assert(sizeof(struct stay) <= 40, "an idle WebSocket costs at most 450 bytes");

/* A WebSocket never shuts one side only: where the client's has ended, so has the connection. */
static inline bool stay_ends_at_once(const struct client *client)
{
    return client->stay != NULL && client->stay->kind == STAY_WEBSOCKET;
}

/* It is read again: that it was not heard meanwhile does not count as silence. */
void stay_resume(struct client *client);

/* A listener of protocol frame or line has accepted it. Returns 0 or -ENOMEM. */
int stay_open(struct client *client);

/*
 * An HTTP client wants to be a WebSocket on this request's route. The request ends, as 101 or an
 * error, at once or when a worker has been asked.
 */
void stay_upgrade(struct request *request, const struct http1_head *head);

/* The worker that was asked has answered, or nobody will. */
void stay_asked(struct request *request, const struct outcome *outcome);

/* Where its subscriptions begin; NULL: it has none. For topics_init(). */
struct subscription *stay_subscriptions(const struct client *client);

/* Bytes that it has for itself, whatever is sent: its topics, and header fields of its handshake.
 */
size_t stay_held(const struct stay *stay);

/* The connection of that id on this shard, or NULL: one that is moving counts as elsewhere. */
struct client *stay_find(struct ctx *ctx, uint64_t conn);

/*
 * Closes with that WebSocket close code and reason; the other kinds just close, after what waits.
 * One that a worker is still asked about is turned away: it is no connection that stays afterwards,
 * and has left its topics.
 */
void stay_close(struct client *client, unsigned code, struct span reason);

/*
 * For another process (stay_save.c): what it has of a connection that stays, and of the message
 * that is incomplete.
 */
void stay_save(const struct client *client, struct pack *pack);
void stay_save_codec(
    const struct client *client, const union codec_state *codec, struct pack *pack);

/* The version of what stay_save_codec() writes, 1 where it is as it ever was: of the section. */
unsigned stay_codec_version(const struct client *client, const union codec_state *codec);

/* It lives on elsewhere: nothing is told or logged when this one ends. */
void stay_forget(struct client *client);

/*
 * Makes the client one that stays. Returns 0, -ENOTSUP (its route is not in this config, or serves
 * something else there), -EBADMSG or -ENOMEM: the client is as it was then.
 */
int stay_restore(struct client *client, struct unpack *unpack);

/* bytes: those of the incomplete message. Returns 0 with *ret_codec, or -EBADMSG. */
int stay_restore_codec(const struct client *client, struct span bytes, union codec_state *ret_codec,
    struct unpack *unpack, unsigned version);

/*
 * Closes because the front ends (1001), or because this process does and no other one takes the
 * connection over (1012).
 */
void stay_say_goodbye(struct client *client);

/*
 * A text (or, binary, anything) encoded for a kind of connection, to be shared. push: it may be
 * dropped for a slow consumer. A line's line ends become spaces. NULL when there is no memory.
 */
struct message *stay_encode(enum stay_kind kind, struct span payload, bool binary, bool push);

/* How many bytes of an encoded message are not framing. */
size_t stay_payload(enum stay_kind kind, const struct message *message);

/* Has the kernel ask for signs of life, with the route's interval. */
void stay_set_keep_alive(const struct client *client);

/* For stay.c: to the client, after what waits; it is doomed where there is no memory. */

/* A text in the connection's framing. */
void stay_send_text(struct client *client, struct span payload);

/* WebSocket: a Ping or Pong. payload: at most WS_CONTROL_MAX bytes. */
void stay_send_control(struct client *client, enum ws_opcode opcode, struct span payload);

/* WebSocket: our Close frame. */
void stay_send_close(struct client *client, unsigned code, struct span reason);

/* An answer has no room: with `slow: drop` the pushes that wait go before it. */
void stay_yield(struct client *client);

/*
 * Sends a pushed message, or deals with a consumer that is too slow for it: see stay_close(). One
 * that is moving gets it from the process that it moves to.
 */
void stay_push(struct client *client, struct message *message);
