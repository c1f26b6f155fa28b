#pragma once

/* A call in progress: its owner, its deadline, and the job that a pool has for it. It ends once. */

#include "frontd/shard/upstream/mark.h"
#include "frontd/shard/upstream/pool.h"
#include "proto/jsonrpc.h"

struct call;

/* How a call ended. */
struct outcome {
    enum rpc_error error; /* 0: a worker has answered, or a notification has been delivered */
    struct span body;     /* of the worker's RESPONSE: not looked at yet; borrowed */
    struct span blob;
    struct worker *worker; /* that has answered; NULL: no worker has */
    struct span method;    /* of the call, where a worker has answered; borrowed */
    bool streamed; /* the blob is the last part of an answer that has been taken part by part */
    uint8_t retry_after; /* s, with RPC_OVERLOADED of a pool; 0: it has not said */
    bool notify;         /* where no call could be made: it was to be a notification */
};

/* Call → its owner: ctx->call_ops, which is set before any call. */
struct call_ops {
    /*
     * The call has ended: it is no longer in its list, and gone after this returns. Also called for
     * one that never had an owner, and for a notification whose owner has cancelled it.
     */
    void (*ended)(struct call *call, const struct outcome *outcome);
    /* Returns whether `n` bytes more of its answer may be held; else it ends as RPC_OVERLOADED. */
    bool (*part)(struct call *call, size_t n);
};

/* A worker of its pool is about to get a call whose connection may be bound to another one:
 * ctx->call_chosen. */
typedef void call_chosen_fn(struct call *call, struct worker *worker);

/* What calls tell of what goes part by part (protocol section 8): ctx->call_parts_ops. */
struct call_parts_ops {
    /*
     * An answer in parts begins; the outcome has the first one. Returns whether this and each that
     * follows is taken as it comes. Where it is not, the answer ends as a whole one; or
     * *ret_error, if set, is how the call ends now. The owner may cancel the call, here and in
     * goes_on().
     */
    bool (*begins)(struct call *call, const struct outcome *outcome, enum rpc_error *ret_error);
    /* For a call whose request is sent in parts: its worker has room for more. */
    void (*room)(struct call *call);
    /* A part of it that is not the last, borrowed. Returns 0, or how the call ends now. */
    enum rpc_error (*goes_on)(struct call *call, struct span bytes);
    /* Its worker tells of progress. Returns NULL, or why that is dropped; static text. */
    const char *(*progress)(struct call *call, struct span text, bool binary);
};

struct call {
    struct job job;
    struct wheel_timer deadline;
    struct list node; /* in the owner's list of calls */
    void *owner;      /* NULL: it is cancelled, or has none */
    const struct conf_route *route;
    struct pair_words *counts;      /* of its route and pool */
    uint64_t came_at;               /* us */
    struct mark *mark;              /* of its request, one reference; NULL: it has none */
    uint8_t span[TRACEPARENT_SPAN]; /* of its own, where it has a mark that is traced */
    char *method_copy; /* where the method has escapes, or the frame has been dropped */
    uint32_t id_at;    /* where in the frame the JSON-RPC id stands; id_len 0: it has none */
    uint32_t id_len;
    /* What its owner charges to the client: see client_may_start(). */
    uint32_t claim;    /* bytes of its frame */
    uint32_t expected; /* bytes of its answer, as far as can be known */
    uint32_t parts;    /* bytes of its answer that have come so far */
    uint16_t kind;     /* for expect.h: the narrow one, and where that is not known */
    uint16_t wide_kind;
    uint32_t limit;   /* one more than the row of the limit that it is counted in; 0: in none */
    int32_t app_code; /* of the error that a worker has answered, where it has a mark; else 0 */
    bool guessed;     /* `expected` is a guess that becomes smaller */
    bool told;        /* ended() has been called, or is not to be: it was cancelled */
};

/* What a call is made of; all borrowed until call_start() returns. */
struct call_spec {
    void *owner;
    struct list *list; /* of the owner: the call is in it until it ends; NULL without an owner */
    const struct conf_route *route;
    struct pool *pool;
    struct worker *to; /* of the pool; NULL: the pool chooses one */
    uint64_t timeout;  /* ms, its time in the queue included */
    uint64_t hash;
    uint64_t home;     /* as in struct job */
    struct span meta;  /* JSON object or empty */
    size_t left_at;    /* where in meta "deadline_ms" has its 10 digits; 0: it is not there */
    size_t span_at;    /* where in meta the call's own span has its 16 digits; 0: it is not there */
    struct mark *mark; /* of its request; NULL: it has none */
    struct span body;  /* JSON-RPC request */
    struct span blob;
    struct span method; /* as it stands in the body; one with escapes may be elsewhere */
    struct span id;     /* within the body; n == 0: none */
    uint64_t conn;      /* that the worker may push to; 0: none */
    uint64_t flow;      /* the client connection, of whatever protocol: those take turns */
    bool method_escaped;
    bool notify;
    bool binary;    /* the blob is a binary message */
    uint32_t claim; /* as in struct call */
    uint32_t expected;
    uint16_t kind;
    uint16_t wide_kind;
    bool guessed;
    const struct conf_policy *policy; /* what holds for it; NULL: the route and pool alone */
    uint32_t limit;                   /* as in struct call: counted already */
    bool more;                        /* the blob is only the beginning: call_send_part() follows */
    bool http; /* the body's id becomes the call's, when it is sent (protocol section 8) */
};

/* What pools are given: the calls are told by ctx->call_ops. */
extern const struct job_ops call_job_ops;

/*
 * Starts a call. Returns 0, and the call may have ended already, as ctx->call_ops says; or -ENOMEM,
 * and there is no call.
 */
int call_start(struct ctx *ctx, const struct call_spec *spec);

/*
 * Of an answer that is taken part by part, `held` bytes of what has come have not left for the
 * client yet: the worker is given credit for the others.
 */
void call_credit(struct call *call, size_t held);

/* How many bytes of its request may be sent now. */
size_t call_part_room(const struct call *call);

/*
 * Sends more of its request, at most call_part_room(). more: it is not the last part. From the
 * first one on the call has no deadline as a whole, only `stream_timeout` for each part, until the
 * last one has been sent.
 */
void call_send_part(struct call *call, struct span bytes, bool more);

/* Its owner does not wait any more: the call leaves its list, and ended() does not come. */
void call_cancel(struct call *call);

/*
 * Reads a worker's answer. Returns 0 with *ret_response, or the error that the client gets:
 * outcome->error, or RPC_BAD_RESPONSE, with a line in the log, where the answer is no JSON-RPC
 * response.
 */
enum rpc_error call_read_answer(
    const struct outcome *outcome, struct jsonrpc_response *ret_response);

/* Logs that an answer cannot be relayed. why: what it is, as in "no JSON"; static text. */
void call_log_bad_answer(const struct outcome *outcome, const char *why);

/* The JSON text of the call's id, for an error; "null" where it has none. Borrowed. */
struct span call_id(const struct call *call);

/* Its wheel timer is due: its deadline has passed, or `kill_after` since it was abandoned. */
void call_timeout(struct wheel_timer *timer);
