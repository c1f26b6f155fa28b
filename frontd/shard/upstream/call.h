#pragma once

/* One call in progress: who asked, where the answer goes, deadline, pool. It ends once. */

#include "frontd/shard/upstream/pool.h"
#include "proto/jsonrpc.h"

struct call;

/* How a call ended. */
struct outcome {
    enum rpc_error error; /* 0: the worker answered, or (no answer) a notification was delivered */
    struct span body;     /* of the worker's RESPONSE: not looked at yet; borrowed */
    struct span blob;
    struct worker *worker; /* that has answered; NULL: none has */
    struct span method;    /* of the call that it has answered; borrowed */
    bool notify;           /* of what did not become a call: it was to be a notification */
};

/* Call → its owner: ctx->call_ops, which is set before any call. */
struct call_ops {
    /* The call has ended: it is no longer in its list, and gone after this returns. */
    void (*ended)(struct call *call, const struct outcome *outcome);
    /* Whether `n` bytes more of its answer may be held; where not, it ends as overloaded. */
    bool (*part)(struct call *call, size_t n);
};

struct call {
    struct job job;
    struct wheel_timer deadline;
    struct list node;  /* in the owner's list of calls */
    void *owner;       /* who waits; NULL: nobody */
    char *method_copy; /* where the method had escapes */
    uint32_t id_at;    /* where in the frame the JSON-RPC id stands; id_len 0: it has none */
    uint32_t id_len;
    /* What its owner charges to who has asked: see client_may_start(). */
    uint32_t claim;    /* bytes of its frame */
    uint32_t expected; /* bytes of its answer, as far as can be known */
    uint32_t parts;    /* bytes of its answer that have come so far */
    uint16_t kind;     /* for expect.h: the narrow one, and where that is not known */
    uint16_t wide_kind;
    bool guessed; /* `expected` is a guess that becomes smaller */
};

/* What a call is made of; all borrowed until call_start() returns. */
struct call_spec {
    void *owner;
    struct list *list; /* of the owner: the call is in it until it ends; NULL without an owner */
    struct pool *pool;
    struct worker *to; /* of the pool; NULL: which one is up to that */
    uint64_t timeout;  /* ms, its time in the queue included */
    uint64_t hash;
    struct span meta; /* JSON object or empty */
    size_t left_at;   /* where in meta "deadline_ms" has its 10 digits; 0: nowhere */
    struct span body; /* JSON-RPC request */
    struct span blob;
    struct span method; /* as it stands in the body, or elsewhere */
    struct span id;     /* within the body; n == 0: none */
    uint64_t conn;      /* that the worker may push to; 0: none */
    uint64_t flow;      /* the client connection that it is from, whatever its protocol */
    bool method_escaped;
    bool notify;
    bool binary;    /* the blob is a binary message */
    uint32_t claim; /* as in struct call */
    uint32_t expected;
    uint16_t kind;
    uint16_t wide_kind;
    bool guessed;
    bool http; /* the body's id is to be the call's: it is written when the call is sent */
};

/* What pools are given: the calls are told by ctx->call_ops. */
extern const struct job_ops call_job_ops;

/* Starts a call. It may end from within. Returns 0, or -ENOMEM where there is no call at all. */
int call_start(struct ctx *ctx, const struct call_spec *spec);

/* Nobody waits for it any more: it leaves its list, and its ops are not called. */
void call_cancel(struct call *call);

/*
 * Looks at a worker's answer. Returns 0, or why the call has failed; where that is since the worker
 * has answered what is none, the log has a line.
 */
enum rpc_error call_read_answer(
    const struct outcome *outcome, struct jsonrpc_response *ret_response);

/*
 * That line, for an answer that cannot be relayed for another reason. why: what it is, static text.
 */
void call_log_bad_answer(const struct outcome *outcome, const char *why);

/* The JSON text of its id, for an error; "null" where it has none. Borrowed. */
struct span call_id(const struct call *call);

/* Its deadline has passed. */
void call_timeout(struct wheel_timer *timer);
