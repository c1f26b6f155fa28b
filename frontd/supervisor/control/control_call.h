#pragma once

/*
 * A call of a method on a control connection, as the method sees it. The method answers it once,
 * before it returns or at any time later; until then it may push. Where the connection ends first,
 * the call is `gone`.
 */

#include "common/list.h"
#include "proto/json_write.h"

struct control_conn;
struct control_call;

struct control_method {
    const char *name;
    /* It changes nothing, costs shards nothing and shows no client: a read-only connection may call
     * it as well. */
    bool readonly;
    /* params: a JSON object, or n == 0; valid until this returns. */
    void (*run)(struct control_call *call, struct span params);
};

/* The methods of a server: a sorted list is not needed, there are few. */
struct control_methods {
    const struct control_method *all; /* borrowed */
    size_t n;
    void *data; /* for the methods: control_call_data() */
};

struct control_call {
    struct list node; /* of its connection */
    struct control_conn *conn;
    void *data; /* of the method that answers later */
    /* For a method that answers later: the connection has ended, or the client wants no answer any
     * more (CANCEL). The call is freed when it returns. NULL: nothing is to be done then. */
    void (*gone)(struct control_call *call);
    uint64_t number; /* of its frames */
    size_t id_n;
    char id[]; /* a JSON value, id_n bytes */
};

/* Returns NULL without memory. It is appended to `calls`. */
struct control_call *control_call_new(
    struct control_conn *conn, struct list *calls, uint64_t number, struct span id);

/* Ends a call without an answer: gone() is called. */
void control_call_drop(struct control_call *call);

/* What the server was given for its methods. */
void *control_call_data(const struct control_call *call);

/*
 * Answers with a result, and frees the call. result: one JSON value; its memory is given back. A
 * result that could not be written for want of memory, or is too long, is answered with an error.
 */
void control_call_answer(struct control_call *call, struct json_writer *result);

/* Answers with an error, and frees the call. code: enum control_error or enum rpc_error. */
void control_call_fail(struct control_call *call, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Sends a notification that belongs to the call, which goes on. params: one JSON value; its memory
 * is given back. Returns whether it was sent; not where too much waits for a client that does not
 * read (control_conn.h), or for want of memory.
 */
bool control_call_push(struct control_call *call, const char *method, struct json_writer *params);
