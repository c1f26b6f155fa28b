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

/* What the session keeps with each request: its place in the order of the answers. */
struct http1_turn {
    struct buf text; /* the complete answer until it is its turn; of one that waits: its head */
    uint8_t minor;   /* of its HTTP version */
    bool head;       /* HEAD: the answer has no body */
    bool keep_alive; /* else its answer is the connection's last */
    bool waits;      /* an upgrade behind other requests: see http1_hold() */
    bool done;       /* it is answered */
    bool chunked;    /* its answer goes out in chunks */
    bool counted;    /* `left` holds for it */
    uint64_t left;   /* bytes of its body that are to come */
};

static inline struct http1_turn *http1_turn(struct request *request)
{
    return request_of_session(request);
}

extern const struct session_ops http1_session;

/* The answer to the request is to be the connection's last. */
void http1_set_last(struct request *request);

/* Keeps the head of an upgrade, which is not the first request in progress, until it is. */
void http1_hold(struct request *request, const struct http_head *head);
