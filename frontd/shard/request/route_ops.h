#pragma once

/*
 * What a kind of route makes of a request: one table of functions for each value of the config key
 * `kind`, in routes/. They are in ctx->routes, by enum conf_kind.
 */

#include "frontd/shard/request/request.h"

struct route_ops {
    const char *name;  /* as in the config */
    struct span allow; /* the Allow field of what answers OPTIONS and 405 */
    /* The front itself answers OPTIONS, and holds a page's request against `origins`. */
    bool answers_options;
    bool is_json;           /* errors are JSON-RPC errors, else a line of text */
    bool has_own_too_large; /* a body over limits.body gets that error */

    /* What it does not take, whatever the body is. Returns 0, or the status. NULL: takes all. */
    unsigned (*refuses)(const struct http_head *head);
    /* A complete request; it may end from within. head: NULL for a message. */
    void (*start)(struct request *request, const struct http_head *head, struct span body);
    /* One of its calls has ended; call: NULL: there was no memory for it. */
    void (*ended)(struct request *request, struct call *call, const struct outcome *outcome);

    /* Where some of a request's calls may wait to be started (request->rest), else NULL: */

    /*
     * Starts them, as far as the connection may start calls. Returns true where none is left (the
     * request may have ended and be gone), false where some are.
     */
    bool (*go_on)(struct request *request);
    /* They are not started any more. */
    void (*drop_rest)(struct request *request);
    /* Bytes that they take. */
    size_t (*rest_size)(const struct request *request);
};
