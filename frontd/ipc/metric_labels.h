#pragma once

/*
 * What a request was and what became of it, in few values: the labels `class` and `code` of
 * metrics. The order is that of words in the shared memory, so that a new one changes SHARE_LAYOUT.
 */

#include "common/base.h"

/*
 * X(NAME, label). A call is a JSON-RPC request that is answered; a member of a batch is counted by
 * itself, beside its batch. Requests of HTTP that are none of these go by their method.
 */
#define METRIC_CLASSES(X)                                                                          \
    X(CALL, "call")                                                                                \
    X(NOTIFICATION, "notification")                                                                \
    X(RESPONSE, "response") /* a client's, to what a worker has pushed */                          \
    X(INVALID, "invalid")   /* no JSON, or no JSON-RPC */                                          \
    X(BATCH, "batch")                                                                              \
    X(MESSAGE, "message") /* of a route with `messages: raw` */                                    \
    X(CONNECT, "connect") /* the handshake of a WebSocket; a worker is asked about a connection */ \
    X(GET, "get")                                                                                  \
    X(HEAD, "head")                                                                                \
    X(POST, "post")                                                                                \
    X(PUT, "put")                                                                                  \
    X(DELETE, "delete")                                                                            \
    X(PATCH, "patch")                                                                              \
    X(OPTIONS, "options")                                                                          \
    X(OTHER, "other")

/*
 * X(NAME, label). Errors of the front by their JSON-RPC code, in whatever form the client got them;
 * statuses that the front gives by itself by their number, those of workers by their class.
 */
#define METRIC_CODES(X)                                                                            \
    X(CANCELLED, "cancelled") /* the client has gone, or was closed */                             \
    X(OK, "ok")                                                                                    \
    X(APP, "app")     /* a JSON-RPC error of a worker */                                           \
    X(CRASH, "crash") /* the shard has ended */                                                    \
    X(PARSE_ERROR, "-32700")                                                                       \
    X(INVALID_REQUEST, "-32600")                                                                   \
    X(METHOD_NOT_FOUND, "-32601")                                                                  \
    X(OVERLOADED, "-32001")                                                                        \
    X(WORKER_LOST, "-32002")                                                                       \
    X(DEADLINE_EXCEEDED, "-32003")                                                                 \
    X(UNAVAILABLE, "-32004")                                                                       \
    X(TOO_LARGE, "-32005")                                                                         \
    X(RATE_LIMITED, "-32006")                                                                      \
    X(BAD_RESPONSE, "-32007")                                                                      \
    X(OTHER_ERROR, "other")                                                                        \
    X(2XX, "2xx")                                                                                  \
    X(3XX, "3xx")                                                                                  \
    X(4XX, "4xx")                                                                                  \
    X(5XX, "5xx")                                                                                  \
    X(400, "400")                                                                                  \
    X(403, "403")                                                                                  \
    X(404, "404")                                                                                  \
    X(405, "405")                                                                                  \
    X(408, "408")                                                                                  \
    X(413, "413")                                                                                  \
    X(415, "415")                                                                                  \
    X(417, "417")                                                                                  \
    X(426, "426")                                                                                  \
    X(429, "429")                                                                                  \
    X(431, "431")                                                                                  \
    X(500, "500")                                                                                  \
    X(501, "501")                                                                                  \
    X(503, "503")                                                                                  \
    X(505, "505")

enum metric_class {
#define METRIC_CLASS(name, label) METRIC_CLASS_##name,
    METRIC_CLASSES(METRIC_CLASS)
#undef METRIC_CLASS
        METRIC_CLASS_COUNT
};

enum metric_code {
#define METRIC_CODE(name, label) METRIC_CODE_##name,
    METRIC_CODES(METRIC_CODE)
#undef METRIC_CODE
        METRIC_CODE_COUNT
};

/* The label of a value; static text. */
const char *metric_class_label(enum metric_class class);
const char *metric_code_label(enum metric_code code);

/* The code of an enum rpc_error; 0 is OK. */
enum metric_code metric_code_of_error(int error);

/* The code of a status that the front gives by itself: its number, or its class. */
enum metric_code metric_code_of_status(unsigned status);

/* The code of a status that a worker gives: its class. */
enum metric_code metric_code_of_answer(unsigned status);
