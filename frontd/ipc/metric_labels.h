#pragma once

/*
 * The labels of metrics that have few values. The order is that of words in the shared memory, so
 * that a new one changes SHARE_LAYOUT.
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
    X(MEMBER, "member")     /* of a batch, refused before it became a call */                      \
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
    X(UNAUTHORIZED, "-32008")                                                                      \
    X(FORBIDDEN, "-32009")                                                                         \
    X(OTHER_ERROR, "other")                                                                        \
    X(2XX, "2xx")                                                                                  \
    X(3XX, "3xx")                                                                                  \
    X(4XX, "4xx")                                                                                  \
    X(5XX, "5xx")                                                                                  \
    X(400, "400")                                                                                  \
    X(401, "401")                                                                                  \
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

/* What a connection speaks. The first one is what its listener says. */
#define METRIC_PROTOCOLS(X)                                                                        \
    X(FIRST, "")                                                                                   \
    X(WEBSOCKET, "websocket")                                                                      \
    X(HTTP2, "http2")

/* Why a connection was closed; a client has room for the first 8. */
#define METRIC_REASONS(X)                                                                          \
    X(CLIENT, "client")       /* it has closed the connection, or broken it off */                 \
    X(DONE, "done")           /* the last answer is out, or it has asked for the end */            \
    X(IDLE, "idle")           /* nothing has come for too long */                                  \
    X(SLOW, "slow")           /* it reads too slowly, or what it sends does not come on */         \
    X(REFUSED, "refused")     /* it breaks a protocol, or a limit */                               \
    X(WORKER, "worker")       /* a worker closes it, or does not let it in */                      \
    X(LEAVING, "leaving")     /* the front stops, or no new shard could take the connection */     \
    X(ROOM, "room")           /* there is no memory for it, or another one needs its place */      \
    X(KICK, "kick")           /* an operator closes it: frontctl kick */                           \
    X(CRASH, "crash")         /* its shard has ended */                                            \
    X(RECOUNTED, "recounted") /* the memory is counted in anew: it is accepted there once more */

/* Versions of TLS. */
#define METRIC_VERSIONS(X)                                                                         \
    X(1_2, "1.2")                                                                                  \
    X(1_3, "1.3")                                                                                  \
    X(UNKNOWN, "unknown")

/* What handshakes come to; after the first two the order is that of enum tls_failure_kind. */
#define METRIC_HANDSHAKES(X)                                                                       \
    X(FULL, "full")                                                                                \
    X(RESUMED, "resumed")                                                                          \
    X(NOT_TLS, "not_tls")                                                                          \
    X(NOT_SHARED, "not_shared")                                                                    \
    X(CERTIFICATE, "certificate")                                                                  \
    X(ALERT, "alert")                                                                              \
    X(PROTOCOL, "protocol")                                                                        \
    X(SILENT, "silent")                                                                            \
    X(RECORD, "record")                                                                            \
    X(INTERNAL, "internal")                                                                        \
    X(LEFT, "left") /* the client has gone */

/* Frames of workers for connections. */
#define METRIC_PUSHES(X)                                                                           \
    X(PUSH, "push")                                                                                \
    X(PUBLISH, "publish")                                                                          \
    X(SUBSCRIBE, "subscribe")                                                                      \
    X(UNSUBSCRIBE, "unsubscribe")                                                                  \
    X(DISCONNECT, "disconnect") X(STATE, "state")

/* What becomes of a connection that reads pushes too slowly. */
#define METRIC_SLOWS(X)                                                                            \
    X(CLOSED, "closed")                                                                            \
    X(DROPS, "drops") /* with `slow: drop`: it is counted once */

/* Why something was refused or closed; the order is that of enum refusal. */
#define METRIC_REFUSALS(X)                                                                         \
    X(NOT_JSON, "not_json")                                                                        \
    X(NOT_RPC, "not_rpc")                                                                          \
    X(METHOD, "no_method")                                                                         \
    X(TOO_LARGE, "too_large")                                                                      \
    X(OVERLOADED, "overloaded")                                                                    \
    X(TOO_LATE, "too_late")                                                                        \
    X(NO_ROUTE, "no_route")                                                                        \
    X(VERB, "bad_method")                                                                          \
    X(FORBIDDEN, "forbidden")                                                                      \
    X(UPGRADE, "no_upgrade")                                                                       \
    X(HTTP, "bad_http")                                                                            \
    X(BUSY, "busy")                                                                                \
    X(WEBSOCKET, "websocket")                                                                      \
    X(HTTP2, "http2")                                                                              \
    X(HTTP2_FLOOD, "http2_flood")                                                                  \
    X(STREAMS, "streams")                                                                          \
    X(BINARY, "binary")                                                                            \
    X(PEER_LIMIT, "peer_limit")                                                                    \
    X(ADDRESS, "address")                                                                          \
    X(TOKEN, "token")                                                                              \
    X(TOKEN_ENDED, "token_ended")                                                                  \
    X(SLOW_READER, "slow_reader")                                                                  \
    X(SLOW_PUSH, "slow_push")                                                                      \
    X(SLOW_SENDER, "slow_sender")                                                                  \
    X(NO_BYTE, "no_byte")                                                                          \
    X(SILENT, "silent")                                                                            \
    X(HANDSHAKE, "tls_handshake_timeout")                                                          \
    X(NOT_TLS, "not_tls")                                                                          \
    X(NOT_SHARED, "tls_not_shared")                                                                \
    X(CERTIFICATE, "tls_certificate")                                                              \
    X(BY_CLIENT, "tls_by_client")                                                                  \
    X(TLS, "tls_protocol")                                                                         \
    X(FAILED_TLS, "tls_internal")                                                                  \
    X(NO_PROXY, "no_proxy")                                                                        \
    X(HEADER, "proxy_header")                                                                      \
    X(NO_HEADER, "no_proxy_header")

/* Why a pool refuses a call; the order is that of enum job_refusal. */
#define METRIC_POOL_REFUSALS(X)                                                                    \
    X(FULL, "queue_full")                                                                          \
    X(WAIT, "wait_too_long")                                                                       \
    X(LATE, "too_late")

/* What limit of its pool a worker has reached that is recycled. */
#define METRIC_RECYCLES(X)                                                                         \
    X(CALLS, "calls")                                                                              \
    X(AGE, "age")                                                                                  \
    X(MEMORY, "memory")

/* What memory of a shard is used for. */
#define METRIC_USES(X)                                                                             \
    X(CONNECTIONS, "connections")                                                                  \
    X(CALLS, "calls")     /* requests, calls and what waits in queues, without their bytes */      \
    X(STREAMS, "streams") /* bytes of answers in parts that have not left */                       \
    X(STATES, "states")   /* of connections, and what binds them to workers */                     \
    X(COMPRESSION, "compression") /* what compresses and inflates */                               \
    X(OTHER, "other")             /* bytes that wait, mostly */

#define METRIC_OUTCOMES(X)                                                                         \
    X(OK, "ok")                                                                                    \
    X(APP, "app")                                                                                  \
    X(FRONT, "front")

/* What a reload is of. */
#define METRIC_PROGRAMS(X)                                                                         \
    X(CONFIG, "config")                                                                            \
    X(PROGRAM, "program")

/* What it comes to. */
#define METRIC_RELOADS(X)                                                                          \
    X(OK, "ok")                                                                                    \
    X(REFUSED, "refused") /* nothing has changed: the config or the program is not right */        \
    X(FAILED, "failed")   /* new shards were not ready: the old ones serve on */

enum metric_class {
#define METRIC_VALUE(name, label) METRIC_CLASS_##name,
    METRIC_CLASSES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_CLASS_COUNT
};

enum metric_code {
#define METRIC_VALUE(name, label) METRIC_CODE_##name,
    METRIC_CODES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_CODE_COUNT
};

enum metric_protocol {
#define METRIC_VALUE(name, label) METRIC_PROTOCOL_##name,
    METRIC_PROTOCOLS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_PROTOCOL_COUNT
};

enum metric_reason {
#define METRIC_VALUE(name, label) METRIC_REASON_##name,
    METRIC_REASONS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_REASON_COUNT
};

enum metric_version {
#define METRIC_VALUE(name, label) METRIC_VERSION_##name,
    METRIC_VERSIONS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_VERSION_COUNT
};

enum metric_handshake {
#define METRIC_VALUE(name, label) METRIC_HANDSHAKE_##name,
    METRIC_HANDSHAKES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_HANDSHAKE_COUNT
};

enum metric_push {
#define METRIC_VALUE(name, label) METRIC_PUSH_##name,
    METRIC_PUSHES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_PUSH_COUNT
};

enum metric_slow {
#define METRIC_VALUE(name, label) METRIC_SLOW_##name,
    METRIC_SLOWS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_SLOW_COUNT
};

enum metric_refusal {
#define METRIC_VALUE(name, label) METRIC_REFUSAL_##name,
    METRIC_REFUSALS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_REFUSAL_COUNT
};

enum metric_pool_refusal {
#define METRIC_VALUE(name, label) METRIC_POOL_REFUSAL_##name,
    METRIC_POOL_REFUSALS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_POOL_REFUSAL_COUNT
};

enum metric_recycle {
#define METRIC_VALUE(name, label) METRIC_RECYCLE_##name,
    METRIC_RECYCLES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_RECYCLE_COUNT
};

enum metric_use {
#define METRIC_VALUE(name, label) METRIC_USE_##name,
    METRIC_USES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_USE_COUNT
};

enum metric_outcome {
#define METRIC_VALUE(name, label) METRIC_OUTCOME_##name,
    METRIC_OUTCOMES(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_OUTCOME_COUNT
};

enum metric_program {
#define METRIC_VALUE(name, label) METRIC_PROGRAM_##name,
    METRIC_PROGRAMS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_PROGRAM_COUNT
};

enum metric_reload {
#define METRIC_VALUE(name, label) METRIC_RELOAD_##name,
    METRIC_RELOADS(METRIC_VALUE)
#undef METRIC_VALUE
        METRIC_RELOAD_COUNT
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
