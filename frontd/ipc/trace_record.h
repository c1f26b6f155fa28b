#pragma once

/*
 * A span of a trace (one call of a worker), as shards send it to the process that exports it: some
 * records in one message of a socket, each with its version, so that shards of another version of
 * the program may send theirs to the same one.
 */

#include "common/buf.h"
#include "frontd/codec/traceparent.h"

enum {
    TRACE_TEXT_MAX = 256,          /* bytes of a text in a record; longer ones are cut */
    TRACE_MESSAGE_MAX = 32 * 1024, /* bytes of a message */
    TRACE_RECORD_MAX = 4096,       /* bytes of a record: more than its texts can have */
};

/* The texts of a record, in the order in which they are packed; all from peers or the config. */
enum trace_text {
    TRACE_METHOD, /* of JSON-RPC */
    TRACE_ID,     /* of the JSON-RPC request, as JSON */
    TRACE_POOL,
    TRACE_WORKER, /* that had it; empty: none had */
    TRACE_LISTENER,
    TRACE_ROUTE,    /* its path in the config */
    TRACE_PROTOCOL, /* "http/1.1" and so on */
    TRACE_PEER,
    TRACE_REQUEST_ID,
    TRACE_TEXTS
};

struct trace_record {
    uint8_t trace[TRACEPARENT_TRACE];
    uint8_t span[TRACEPARENT_SPAN];
    uint8_t parent[TRACEPARENT_SPAN]; /* all zero: it has none */
    uint64_t start;                   /* us since 1970: when the call came */
    uint64_t duration;                /* us */
    uint64_t queued;                  /* us of these, until a worker was sent it */
    uint64_t conn;                    /* its connection */
    int32_t error;                    /* of JSON-RPC; 0: it has a result */
    uint16_t status;                  /* of the answer in HTTP; 0: none so far */
    uint8_t flags;                    /* of the trace: TRACEPARENT_SAMPLED and so on */
    bool failed;                      /* it counts as an error */
    struct span texts[TRACE_TEXTS];   /* borrowed; empty: not known */
};

/* Appends a record. Returns 0 or -ENOMEM with the buffer as it was. */
int trace_record_pack(struct buf *out, const struct trace_record *record);

/*
 * Takes the next record of a message off its front; texts point into it. Returns true, or false at
 * the end; then *ret_bad says whether what is left is no record. Records of another version are
 * passed over.
 */
bool trace_record_next(struct span *message, struct trace_record *ret, bool *ret_bad);
