#pragma once

/*
 * Where calls and requests are accounted for, each once, when it ends. What wants to hear of each
 * one (the slow log, the access log, traces, taps) is an observer; where there is none, that costs
 * a branch.
 */

#include "frontd/shard/request/request.h"

/* A call or a request that has ended, as far as its client goes. All of it is borrowed. */
struct account {
    const struct conf_route *route; /* NULL: none was found */
    const struct client *client;    /* NULL: the call is of an event of a connection */
    struct peer peer;               /* family 0: not known */
    uint64_t conn;                  /* the client connection's id */
    enum metric_class class;        /* of a call: CALL or NOTIFICATION */
    enum metric_code code;
    uint64_t came; /* us, as ctx_now_us() */
    uint64_t whole;
    uint64_t bytes_in;  /* of a call: its frame to the worker; of a request: its body */
    uint64_t bytes_out; /* the answer's body, or of a call its RESPONSE, blob included */
    /* Of a call; of a request all of it is NULL or 0: */
    const struct call *call;
    struct span method;
    const struct pool *pool;
    const struct worker *worker;   /* that had it last; NULL: none had */
    uint64_t queued;               /* us that it waited for a worker, or for all its time */
    uint64_t worked;               /* us from when a worker got it; 0: none did */
    const struct outcome *outcome; /* NULL: it was cancelled */
    const struct request *request; /* of a request; NULL: it is a call */
};

struct account_observer {
    /* Either may be NULL. It may end its own observing from within, and no other's. */
    void (*call)(struct ctx *ctx, struct account_observer *observer, const struct account *account);
    void (*request)(
        struct ctx *ctx, struct account_observer *observer, const struct account *account);
    /* us: it hears only of what has taken as long, 0: of all; and of what has a mark that is
     * wanted. */
    uint64_t from;
    struct account_observer *next; /* account_observe() sets it */
};

/* From now on the observer hears of all that ends; not twice. It is borrowed until
 * account_ignore(). */
void account_observe(struct ctx *ctx, struct account_observer *observer);

/* It does not any more. No effect where it did not. */
void account_ignore(struct ctx *ctx, struct account_observer *observer);

/* Who a call is from, as far as anything wants to know. Zeroed: not known. */
struct account_from {
    const struct client *client;
    struct peer peer; /* set only where there are observers */
};

/* Taken before a request is told that its call has ended, since it may be gone afterwards. */
struct account_from account_from(const struct request *request);

/*
 * A call has ended. outcome: NULL: it was cancelled. code: what became of it, as its route or its
 * session has said.
 */
void account_call(struct ctx *ctx, const struct call *call, const struct account_from *from,
    const struct outcome *outcome, enum metric_code code);

/* A request has come whose route is known by now, if it has one: it is counted as received. */
void account_begin(struct request *request);

/* A request has ended, and is about to be freed: its class, code and times are set. */
void account_request(struct request *request);

/* Counts a member of a batch that is refused before it becomes a call. */
void account_member(struct request *request, enum metric_code code);

/* What the connection speaks: "http/1.1", "http/2", "websocket", "frame" or "line"; static text. */
const char *account_protocol(const struct client *client);

/* The class of a request of HTTP by its method, until its route knows better. */
enum metric_class account_class(const struct http_head *head);
