#pragma once

/* A connection to the control server, blocking, with a limit for each answer. */

#include "common/buf.h"
#include "proto/json_write.h"

enum {
    LINK_HELLO_MS = 5000,   /* for the connection and the supervisor's HELLO */
    LINK_ANSWER_MS = 30000, /* for an answer to what takes the supervisor no time */
};

struct link {
    int fd; /* -1: none */
    struct buf in;
    size_t taken; /* bytes of `in` that the last frame has */
    uint64_t calls;
    char peer[64]; /* version of the supervisor's program, for messages */
};

/* What has become of a call. Spans point into the link, until its next call. */
struct link_answer {
    struct span result; /* a JSON value; n == 0: it is an error */
    struct span error;  /* the JSON object */
    int code;           /* of the error */
};

enum link_outcome {
    LINK_ANSWERED, /* with a result or an error */
    LINK_LOST,     /* the supervisor has closed the connection, or has ended */
    LINK_SILENT,   /* no answer has come in time */
    LINK_BROKEN,   /* what has come is no answer */
};

/* A notification that belongs to the call in progress. params: a JSON value. */
typedef void link_push(void *data, struct span method, struct span params);

/*
 * Connects and says HELLO. Returns 0 or an exit code; why is said on standard error unless `quiet`.
 * link: zeroed, or closed.
 */
int link_open(struct link *link, const char *path, bool quiet);

void link_close(struct link *link);

/*
 * Calls a method and waits for the answer. params: an object, consumed; NULL: none. on_push: NULL
 * ignores what is pushed. timeout_ms: between two signs of life; -1: any time.
 */
enum link_outcome link_call(struct link *link, const char *method, struct json_writer *params,
    int timeout_ms, link_push *on_push, void *data, struct link_answer *ret_answer);
