#pragma once

/* An HTTP request in progress: which calls it becomes, and what answer they make together. */

#include "frontd/shard/client/client.h"
#include "frontd/shard/upstream/call.h"

struct request {
    struct list node;  /* in client->requests */
    struct list calls; /* in progress */
    struct client *client;
    const struct conf_route *route; /* NULL: none was found */
    const struct span *page;        /* lines that every answer has, so that the page which asks may
                                     * read it (conf_cors.fields); NULL: none */
    struct buf reply;               /* the complete answer, until it is its turn */
    struct buf batch;               /* the answers of a batch's members so far */
    struct batch_rest *rest;        /* members that wait to be started; NULL: none */
    uint32_t gathered;              /* bytes of `batch`, as counted in client->held_back */
    uint32_t pending;               /* calls in progress, and one while they are started */
    uint32_t promised;              /* bytes that were expected of the answer that is looked at */
    uint8_t minor;                  /* of its HTTP version */
    bool head;                      /* HEAD: the answer has no body */
    bool keep_alive;
    bool is_batch;
    bool asking; /* a worker is asked whether the connection may stay (duplex.h) */
    bool waits;  /* an upgrade behind other requests: its head is in `batch` (http.h) */
    bool done;   /* `reply` is complete */
};

/* Once, at start: sets what calls do when they end. pools: of the config, borrowed. */
void request_init(struct ctx *ctx, struct pool *pools);

/*
 * Starts a complete request. It may end from within.
 * minor: of its version, HTTP/1.x; keep_alive: the connection may go on after the answer.
 * Returns false where there is no memory even for an error: the client is doomed.
 */
bool request_start(struct client *client, const struct http_head *head, struct span body,
    unsigned minor, bool keep_alive);

/* One whose route has put it off starts again; it has no body. */
void request_start_again(struct request *request, const struct http_head *head);

/* A message of a connection that stays is JSON-RPC, as the body of a POST would be. */
void request_message(struct request *request, struct span payload);

/*
 * Refuses what could not become a request: answers with that status, and the connection ends.
 * is_head: its method is HEAD. head: NULL where there is none. minor: of its version, HTTP/1.x.
 */
void request_refuse(struct client *client, unsigned status, bool is_head,
    const struct http_head *head, unsigned minor);

/* Whether a request with this head would be refused whatever its body is (for Expect). */
bool request_hopeless(const struct client *client, const struct http_head *head);

/* Its answer is known without them: cancels its calls. */
void request_cancel(struct request *request);

/* Its client is going: cancels its calls and frees it. */
void request_abandon(struct request *request);

/* The same for all of a client's. */
void request_abandon_all(struct client *client);

/* Frees one whose answer is out. */
void request_free(struct request *request);

/* For routes */

/* What an answer has besides its body. */
struct reply {
    unsigned status;
    const char *content_type; /* NULL: none */
    struct span fields;       /* further header fields, each ending in CRLF */
    struct span body;
    uint64_t length; /* HEAD: of the body that GET would give */
    bool has_length; /* `length` is set */
};

/* Answers and ends the request. */
void request_reply(struct request *request, const struct reply *reply);

/* An error made by the front, as the request's route wants it. id: JSON text for the error. */
void request_error(struct request *request, enum rpc_error error, struct span id);

/* A short text with that status. */
void request_status(struct request *request, unsigned status, struct span fields);

/* request_status() with that of an error made by the front. */
void request_error_status(struct request *request, enum rpc_error error);

/* A request that has no HTTP head: a message's. NULL when there is no memory. */
struct request *request_add(struct client *client, const struct conf_route *route);

/* Starts a notification that belongs to no request. */
void request_notify(
    struct ctx *ctx, const struct conf_route *route, struct call_spec *spec, uint32_t pool);

/*
 * Whether an answer of `n` bytes to one of its calls may be held: it is about as large as was
 * expected when the call was started, which is room that the client has; or as client_fits() says.
 */
bool request_fits(struct request *request, size_t n);

/*
 * Starts a call of the request; counts it. The spec's wide_kind and kind are set, and its timeout,
 * where it is not the route's.
 */
void request_call(struct request *request, struct call_spec *spec, uint32_t pool);

/*
 * The worker of a pool of the route's realm that a client's Response with this id (a JSON value) is
 * for, and the pool's index in *ret_pool; NULL where none is there that says so.
 */
struct worker *request_asker(
    const struct ctx *ctx, const struct conf_route *route, struct span id, int *ret_pool);
