#pragma once

/*
 * A request in progress, of HTTP or a message: which calls it becomes, and what answer they make
 * together. When and how the answer goes out is decided by the session of its client, which may
 * keep something of its own with each request: request_of_session().
 */

#include "frontd/codec/event_stream.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/request/compress_answer.h"
#include "frontd/shard/request/reply.h"
#include "frontd/shard/upstream/call.h"

struct request {
    struct list node;  /* in client->requests */
    struct list calls; /* in progress */
    struct client *client;
    const struct conf_route *route; /* NULL: none was found */
    const struct span *page;        /* lines that every answer has, so that the page which asks may
                                     * read it (conf_cors.fields); NULL: none */
    struct buf batch;               /* the answers of a batch's members so far */
    struct mark *mark;              /* its trace and its id; NULL: it has none */
    struct answer_coding coding;    /* where the route has `compress` */
    struct claims *claims;          /* what its token says; NULL: none was asked for */
    struct parked *parked;   /* its token waits to be verified (parked.h); NULL: it does not */
    struct batch_rest *rest; /* members that wait to be started; NULL: none */
    uint32_t gathered;       /* bytes of `batch`, as counted in client->held_back */
    uint32_t pending;        /* calls in progress, and one while others are started */
    uint32_t promised;       /* bytes that the answer being looked at was expected to have */
    /* For account.h: */
    struct route_words *counts; /* where it was counted as received; NULL: not yet */
    uint64_t came_at;           /* us */
    uint32_t bytes_in;          /* of its body */
    uint32_t bytes_out;         /* of the answer's body */
    uint8_t class;              /* enum metric_class */
    uint16_t retry_after;       /* s: of an error that says so; 0: 1 */
    uint8_t code;               /* enum metric_code; CANCELLED until it has an answer */
    struct peer peer;           /* of an HTTP request that has come through a proxy, as that
                                 * says; family 0: see request_peer() */
    bool inflated;              /* its body came with a content coding, and its calls are without */
    bool is_batch;
    bool progress;    /* its client is told of the progress of its calls (progress.h) */
    bool canary;      /* its calls are for the canary of its route */
    bool token_wrong; /* it is refused for its token, not for having none */
    bool asking;      /* a worker is asked whether the connection is let in (duplex.h) */
    /* For upload.h: */
    bool uploads;         /* its body is still coming, and goes to the worker part by part */
    uint64_t upload_left; /* bytes that may still come */
    /* For parts.h: */
    bool streams;               /* its answer has begun, and goes out part by part */
    bool is_events;             /* it is of Server-Sent Events, */
    bool ends;                  /* which end with the event that is under way */
    struct event_stream events; /* what has passed of them */
};

/* What the session keeps with the request: session->request_size bytes, zeroed at first. */
static inline void *request_of_session(struct request *request)
{
    return request + 1;
}

/* Who the request is from. */
static inline struct peer request_peer(const struct request *request)
{
    return request->peer.family == 0 ? client_peer(request->client) : request->peer;
}

/* Once, at start: sets what happens when calls end. pools: of the config, borrowed. */
void request_init(struct ctx *ctx, struct pool *pools);

/*
 * A request that is the client's youngest, to be started or refused. route: NULL where it is not
 * known yet. NULL when there is no memory.
 */
struct request *request_add(struct client *client, const struct conf_route *route);

/*
 * Gives the request its mark, where the config has a use for one and it has none yet. head: NULL
 * for a message, and where it is not known.
 */
void request_mark(struct request *request, const struct http_head *head);

/* Starts a complete HTTP request by its head and body, on the route that it wants. It may end from
 * within. */
void request_start(struct request *request, const struct http_head *head, struct span body);

/* Starts a request once more that its route has put off; it has no body. */
void request_start_again(struct request *request, const struct http_head *head);

/* Starts a message of a duplex connection: it is JSON-RPC, as the body of a POST would be. */
void request_message(struct request *request, struct span payload);

/*
 * Answers a request that is incomplete or wrong with that status, or with what its route says of
 * every such request. head: NULL where there is none.
 */
void request_refuse(struct request *request, unsigned status, const struct http_head *head);

/*
 * What would become of a request with this head on that listener, whatever its body is: returns 0,
 * or the status that it would be refused with. *ret_route: its route; NULL: there is none.
 */
unsigned request_judge(const struct ctx *ctx, const struct conf_listener *listener,
    const struct http_head *head, const struct conf_route **ret_route);

/* Whether a request with this head would be refused, whatever its body is (for Expect). */
bool request_hopeless(const struct client *client, const struct http_head *head);

/* Cancels the calls of a request, whose answer is known without them. */
void request_cancel(struct request *request);

/* Cancels the calls of a request, which is not answered any more, and frees it. */
void request_abandon(struct request *request);

/* The same for all requests of a client. */
void request_abandon_all(struct client *client);

/* Frees a request whose answer is out. */
void request_free(struct request *request);

/* For routes */

/* Answers and ends the request. */
void request_reply(struct request *request, const struct reply *reply);

/* The same for an answer of workers: it is compressed where the route says so. */
void request_reply_coded(struct request *request, const struct reply *reply);

/* Answers with an error of the front, in the form of the request's route. id: JSON text; n == 0:
 * null. */
void request_error(struct request *request, enum rpc_error error, struct span id);

/* Answers with that status and a short text. fields: further header fields, as in struct reply. */
void request_status(struct request *request, unsigned status, struct span fields);

/* request_status() with the status of an error of the front. */
void request_error_status(struct request *request, enum rpc_error error);

/* Starts a notification that belongs to no request. */
void request_notify(
    struct ctx *ctx, const struct conf_route *route, struct call_spec *spec, uint32_t pool);

/*
 * Whether an answer of `n` bytes to one of the request's calls may be held. It may where it is
 * about as large as was expected when the call was started, since the client was charged for that;
 * else where client_fits() says so.
 */
bool request_fits(struct request *request, size_t n);

/*
 * Starts a call of the request and charges it to the client; it may end from within. The spec's
 * wide_kind and kind are set, and its timeout, where it is not the route's.
 */
void request_call(struct request *request, struct call_spec *spec, uint32_t pool);

/*
 * The worker of a pool of the route's realm that a client's Response with this id (a JSON value) is
 * for, and the pool's index in *ret_pool; NULL where none is there that says so.
 */
struct worker *request_asker(
    const struct ctx *ctx, const struct conf_route *route, struct span id, int *ret_pool);
