#pragma once

/*
 * The session of HTTP/2 (RFC 9113): many requests at once on a connection, each on a stream of its
 * own, answered as their answers come. What frames, streams and limits are is in codec/h2_conn.h.
 *
 *   http2_session.c  life: bytes to frames, the end of a turn, timeouts, GOAWAY
 *   http2_request.c  header blocks and bodies become requests
 *   http2_answer.c   answers, within the client's windows and fair among streams
 *   http2_parts.c    answers that go out part by part
 *   http2_decoder.c  header tables, which are frozen while they are not used
 *   http2_socket.c   streams that are WebSockets
 *   http2_state.c    moving to another process
 *   http_first.c     a connection whose first bytes tell whether it is one of HTTP/2
 *
 * A stream is open from its header block on, and goes through these states:
 *
 *   BODY → its body comes → WAITS, where no call may be started now → CALLED, a request is in
 *   progress → PARTS, where its answer goes out part by part → ANSWERS, what is left of its answer
 *   waits for the client's window → gone
 *
 * One that an extended CONNECT opens (RFC 8441) is a SOCKET once its handshake is right, until it
 * is closed.
 *
 * Streams that are not CALLED or PARTS move to another process with their connection: in between
 * there is no call, and all that they have is bytes.
 */

#include "frontd/codec/h2_conn.h"
#include "frontd/codec/h2_head.h"
#include "frontd/codec/h2_reply.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/request.h"

enum {
    HTTP2_DECODERS = 64,     /* that a shard keeps at most: each takes 3 to 9 KB */
    HTTP2_DECODER_MS = 1000, /* that a decoder is kept without a block to decode */
    HTTP2_OUT = 64 * 1024,   /* bytes that wait to be written, until streams wait too */
    HTTP2_GOAWAY_MS = 1000,  /* for the answer to the PING that follows the first GOAWAY */
};

enum http2_stream_state {
    HTTP2_BODY,
    HTTP2_WAITS,
    HTTP2_CALLED,
    HTTP2_ANSWERS,
    HTTP2_SOCKET, /* of a WebSocket, which may not be let in yet */
    HTTP2_PARTS,  /* called, and its answer has begun to go out */
};

struct http2_socket;

/* What is added here is carried to another process: see http2_state.c. */
struct http2_stream {
    struct h2_stream h2;
    struct client *client;
    struct request *request;     /* CALLED, PARTS */
    struct http2_socket *socket; /* SOCKET */
    struct list sending;         /* in http2->sending: ANSWERS, and PARTS and SOCKET that have
                                    something to send */
    struct buf head;             /* BODY, WAITS: the list of its fields */
    struct buf body;   /* BODY, WAITS: of the request. PARTS, ANSWERS: what is left of the answer.
                          Extended CONNECT: what its WebSocket has not read */
    struct buf upload; /* CALLED, PARTS, of a request that `uploads`: what its worker has no room
                          for yet. Not carried, since such a stream does not move */
    uint64_t since;    /* ms: BODY, PARTS, ANSWERS: since when `moved` is counted */
    uint32_t moved;    /* bytes */
    uint8_t state;     /* enum http2_stream_state */
    bool is_head;      /* HEAD: the answer has no body */
    bool is_connect;   /* extended CONNECT */
    bool is_upload;    /* its body goes to the worker part by part */
};

struct http2_decoder;

/* What an HTTP/2 connection has besides struct client. */
struct http2 {
    struct h2_conn conn;
    struct list sending;           /* streams that have something to send, the one whose turn it
                                      is first */
    struct http2_decoder *decoder; /* NULL: its table is frozen */
    char *frozen;                  /* the table; NULL: nothing was learned */
    uint32_t goaway_at;            /* ms, the low bits of the clock: when the second GOAWAY is due;
                                      0: it is not */
    uint32_t frozen_n;             /* bytes */
    uint32_t held;                 /* bytes of requests that are not in progress */
    uint16_t bodies;               /* streams in BODY */
    uint16_t waiting : 15;         /* streams in WAITS */
    uint16_t uploads : 1;          /* some stream may have something in `upload` */
};
_Static_assert(sizeof(struct http2) <= 120, "an idle connection costs no more beside its table");

/* What a shard has for its HTTP/2 connections. */
struct http2_shared {
    struct slab connections;
    struct slab streams;
    struct list decoders; /* that are kept, the one that was used longest ago first */
    unsigned ndecoders;
    uint32_t room_n; /* bytes at `room`: at least limits.header, once a connection was there */
    char *room;      /* for the list of one block; NULL: none was needed yet */
};

/* What the session keeps with each request. */
struct http2_turn {
    struct http2_stream *stream;
    uint64_t left; /* PARTS, with has_length: bytes of the body that are still to come */
    bool has_length;
};

static inline struct http2_turn *http2_turn(struct request *request)
{
    return request_of_session(request);
}

static inline struct http2_stream *http2_stream_of(struct h2_stream *stream)
{
    return container_of(stream, struct http2_stream, h2);
}

extern const struct session_ops http2_session;
extern const struct session_ops http_first_session;

/* Once for a shard. */
void http2_init(struct http2_shared *shared, struct ctx *ctx);
void http2_deinit(struct http2_shared *shared);

/* http2_session.c */

/* The limits of the client's connection in this process. */
struct h2_config http2_config(const struct client *client);

/* Has room for header blocks of `n` bytes, decoded. Returns 0 or -ENOMEM. */
int http2_make_room(struct ctx *ctx, uint32_t n);

/* The session speaks HTTP/2 from now on, before its preface. Returns 0 or -ENOMEM. */
int http2_open(struct client *client);

/* Makes client->http2, without the bytes that begin a connection. Returns 0 or -ENOMEM. */
int http2_begin(struct client *client);

/* Sends bytes that are few: a control frame. */
void http2_send(struct client *client, const void *bytes, size_t n);

/* Closes the connection with GOAWAY, at the end of the turn. Its streams are left until then. */
void http2_fail(struct client *client, enum h2_fault fault);

/* Closes a stream with RST_STREAM, whether it is open (its struct is freed) or not (NULL). */
void http2_reset(
    struct client *client, uint32_t id, struct http2_stream *stream, enum h2_code code);

/* The same for a fault of the client's, which is noted. */
void http2_fail_stream(
    struct client *client, uint32_t id, struct http2_stream *stream, enum h2_fault fault);

/* Frees a stream that is not the connection's any more; its request, if any, is abandoned. */
void http2_drop(struct http2_stream *stream);

/* The stream's progress is measured from now on. */
void http2_set_since(struct http2_stream *stream);

/* The one place where the state of a stream changes. */
void http2_set_state(struct http2_stream *stream, enum http2_stream_state state);

/* http2_request.c */

/* What a block is for, and what follows from it. */
void http2_take_block(struct client *client, const struct h2_event *event);

/* Bytes of a body, or its end. */
void http2_take_data(struct client *client, const struct h2_event *event);

/* What streams have of bodies that go part by part is sent, as far as workers have room. */
void http2_push_uploads(struct client *client);

/* Lets the oldest stream whose body is not complete send the rest of it. */
void http2_grant(struct client *client);

/* Starts what waits, as far as requests may be started, the oldest first. */
void http2_start_waiting(struct client *client);

/* Answers a request whose body has not all come with that status. */
void http2_refuse(struct http2_stream *stream, unsigned status);

/* As struct session_ops says. */
void http2_upload_room(struct request *request);
struct span http2_head_text(const struct http_head *head);
const struct http_head *http2_head_again(struct span text);

/* http2_answer.c */

void http2_reply(struct request *request, const struct reply *reply);

/* What the HEADERS of an answer say; its end_stream and no_length are the caller's to set. */
struct h2_reply http2_head_of(
    const struct request *request, const struct reply *reply, uint64_t length);

/* Bytes of an answer, whose state is PARTS or ANSWERS, wait for the client's window. Returns false
 * where there is no memory: the client is doomed. */
bool http2_keep(struct http2_stream *stream, struct span bytes);

/* Appends a DATA frame of the first `n` bytes at `p`. Returns false where there is no memory. */
bool http2_put_bytes(struct http2_stream *stream, const char *p, uint32_t n, bool last);

/* The answer is out: the stream ends, and with it what the client has not sent of its request. */
void http2_finish_stream(struct http2_stream *stream);

/* Appends the HEADERS of an answer. Returns false where there is no memory. */
bool http2_put_head(struct client *client, const struct h2_reply *reply, uint32_t stream);

/* Appends a DATA frame of `n` bytes. Returns its payload, to be filled; NULL: there is no memory,
 * and the client is doomed. n: what h2_conn_sendable() allows. */
char *http2_put_data(struct http2_stream *stream, uint32_t n, bool last);

/*
 * Puts DATA of the streams that have any into client->out, by turns, as far as windows and
 * HTTP2_OUT allow.
 */
void http2_fill(struct client *client);

/* Whether http2_fill() would find something to do if client->out were empty. */
bool http2_has_more(const struct client *client);

/* http2_parts.c: as struct session_ops says */

enum session_parts http2_begin_parts(struct request *request, const struct reply *reply);
bool http2_part(struct request *request, struct span bytes);
bool http2_finish(struct request *request);
void http2_break_off(struct request *request);
size_t http2_unsent(struct request *request);

/* http2_socket.c */

/*
 * The handshake of a WebSocket is right: its stream gets a client of its own, whose transport it
 * is, and the request becomes that client's. Returns 0, or the status to refuse it with.
 */
unsigned http2_socket_open(struct request *request);

/* The WebSocket is let in: says so. fields: further header fields, as in struct reply. */
void http2_socket_accept(struct client *socket, struct span fields);

/*
 * It is not: the request becomes its stream's again, to be answered, and its client ends. Returns
 * false where the stream is gone, and nothing is to be answered.
 */
bool http2_socket_give_back(struct request *request);

/* Something has come for it: bytes, or the end of them. */
void http2_socket_wake(struct http2_stream *stream);

/* It may send a frame. */
void http2_socket_send(struct http2_stream *stream);

/* Whether it has something to send. */
bool http2_socket_has_more(const struct http2_stream *stream);

/* Its stream is gone: the WebSocket ends. */
void http2_socket_lose(struct http2_stream *stream);

bool http2_each_socket(
    const struct client *client, bool (*each)(struct client *socket, void *arg), void *arg);

/* For http2_state.c. restore: to a stream that is to be a SOCKET. Returns 0 or -errno. */
void http2_socket_save(const struct http2_stream *stream, struct pack *pack);
int http2_socket_restore(struct http2_stream *stream, struct unpack *unpack);

/* http2_decoder.c */

/* The decoder of the connection, thawed where it has to be. NULL: there is no memory. */
struct h2_hpack *http2_decoder_of(struct client *client);

/* When the connection's decoder is to be frozen, in ms; UINT64_MAX: it is. */
uint64_t http2_decoder_due(const struct http2 *http2);

/* Freezes the connection's decoder. Where there is no memory the client is doomed. */
void http2_decoder_freeze(struct client *client);

/* Appends the connection's table, frozen. Returns 0 or -ENOMEM. */
int http2_decoder_save(const struct http2 *http2, struct buf *out);

/* The connection ends. */
void http2_decoder_free(struct client *client);

/* http2_state.c */

void http2_save(const struct client *client, struct pack *pack);
int http2_restore(struct client *client, struct unpack *unpack);
