#pragma once

/*
 * The session of HTTP/1.1: several requests may be in progress on a connection, and their answers
 * go out in order (RFC 9112 section 9.3.2). What a client sees depends on its bytes alone, not on
 * where the segments end: an upgrade that comes while requests before it are in progress waits for
 * its turn, since no answer can follow 101, and with it waits what comes behind, which may be
 * messages.
 */

#include "frontd/codec/http1.h"
#include "frontd/shard/request/request.h"

/* How the end of an answer is known (RFC 9112 section 6.3). */
enum http1_framing {
    HTTP1_WHOLE, /* it goes out whole, with its length */
    HTTP1_CHUNKED,
    HTTP1_LENGTH,
    HTTP1_UNTIL_CLOSE, /* HTTP/1.0 knows no chunks */
};

/* What the session keeps with each request: its place in the order of the answers. */
struct http1_turn {
    struct buf text;    /* of the answer, until it is its turn; of one that waits: its head */
    uint64_t left;      /* HTTP1_LENGTH: bytes of the body that are still to come */
    uint32_t held;      /* what is counted in client->held_back for `text` */
    uint8_t framing;    /* enum http1_framing */
    uint8_t minor;      /* of its HTTP version */
    bool head;          /* HEAD: the answer has no body */
    bool keep_alive;    /* else its answer is the connection's last */
    bool waits;         /* an upgrade behind other requests: see http1_hold() */
    bool done;          /* it is answered */
    bool continue_owed; /* of one whose body goes on part by part: it waits for "100 Continue" */
};

static inline struct http1_turn *http1_turn(struct request *request)
{
    return request_of_session(request);
}

extern const struct session_ops http1_session;

/* The answer to the request is to be the connection's last. */
void http1_set_last(struct request *request);

/* Its answer is complete: what is still to come of its body is not looked at, and the connection
 * ends behind the answer. */
void http1_end_upload(struct request *request);

/* Keeps the head of an upgrade, which is not the first request in progress, until it is. */
void http1_hold(struct request *request, const struct http_head *head);

/* Sends the answers whose turn it is. */
void http1_send_replies(struct client *client);

/*
 * Where up to `n` bytes of an answer are written, counted in by the caller in *ret_out; NULL, with
 * the client doomed: there is no memory.
 */
char *http1_room(struct request *request, size_t n, struct buf **ret_out);

/*
 * Bytes of the answer wait for its turn: counts in client->held_back what that takes. The whole
 * blocks count, since an answer may be a few bytes, and very many requests may be answered without
 * a call.
 */
void http1_hold_back(struct request *request);

/* http1_stream.c: as struct session_ops says */
enum session_parts http1_begin(struct request *request, const struct reply *reply);
bool http1_part(struct request *request, struct span bytes);
bool http1_finish(struct request *request);
void http1_break_off(struct request *request);
size_t http1_unsent(struct request *request);
