#pragma once

/*
 * What a kind of route makes of a request: one table of functions for each value of the config key
 * `kind`, in routes/. The tables are in ctx->routes, by enum conf_kind.
 */

#include "frontd/shard/request/request.h"

struct route_ops {
    struct span allow; /* the Allow field of what answers OPTIONS and 405 */
    /* The front itself answers OPTIONS, and holds a page's request against `origins`. */
    bool answers_options;
    bool is_json;           /* its errors are JSON-RPC errors, else a line of text */
    bool has_own_too_large; /* a body over limits.body is answered with that error */

    /* Returns 0, or the status of what is refused, whatever the body is. NULL: nothing is. */
    unsigned (*refuses)(const struct conf_route *route, const struct http_head *head);
    /* Starts the calls of a complete request; it may end from within. head: NULL for a message. */
    void (*start)(struct request *request, const struct http_head *head, struct span body);
    /* A call of the request has ended. call: NULL where there was no memory for it. Returns what
     * became of the call. */
    enum metric_code (*ended)(
        struct request *request, struct call *call, const struct outcome *outcome);
    /*
     * The answer to its only call begins, in parts: parts_open() sends it. Returns and may fail as
     * call_parts_ops.begins() does. NULL: answers are taken whole.
     */
    bool (*begins)(
        struct request *request, const struct outcome *outcome, enum rpc_error *ret_error);

    /* NULL where no calls of a request wait to be started (request->rest): */

    /*
     * Starts them, as far as the connection may start calls. Returns true where none is left (the
     * request may have ended and be gone), false where some are.
     */
    bool (*go_on)(struct request *request);
    /* Frees the calls that wait: they are not started any more. */
    void (*drop_rest)(struct request *request);
    /* Bytes that they take. */
    size_t (*rest_size)(const struct request *request);
};

/* Of a request whose route is known. */
static inline const struct route_ops *route_ops_of(const struct request *request)
{
    return request->client->ctx->routes[request->route->kind];
}
