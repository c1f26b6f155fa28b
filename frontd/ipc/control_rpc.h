#pragma once

/*
 * What is said on a connection of the control server (docs/control.md), for both of its ends:
 * frames of proto/frame.h whose bodies are JSON. Pure.
 */

#include "common/base.h"
#include "common/buf.h"

enum {
    CONTROL_PROTOCOL = 1,                  /* `control` of HELLO */
    CONTROL_REQUEST_MAX = 64 * 1024,       /* bytes of payload of a frame that a client sends */
    CONTROL_ANSWER_MAX = 16 * 1024 * 1024, /* the same, of a frame that the supervisor sends */
};

/* Codes of errors, beside those of JSON-RPC itself (proto/errors.h). */
enum control_error {
    CONTROL_E_FAILED = -32010,  /* what was asked for was tried, and has failed */
    CONTROL_E_REFUSED = -32011, /* this connection may not do that */
    CONTROL_E_UNKNOWN = -32012, /* there is no such pool, worker, connection … */
    CONTROL_E_BUSY = -32013,    /* not now: something else is in progress */
};

/* A request. Its spans point into the body that it was read from. */
struct control_rpc_request {
    struct span id;     /* the JSON value */
    struct span method; /* inside the quotes, escapes not resolved */
    struct span params; /* a JSON object; n == 0: none */
};

/* Results of control_rpc_read_request() besides 0. */
enum {
    CONTROL_RPC_IGNORE = 1, /* a notification or a response: neither is carried out or answered */
    CONTROL_RPC_PARSE,      /* no JSON: RPC_PARSE_ERROR */
    CONTROL_RPC_INVALID,    /* no request, or a batch: RPC_INVALID_REQUEST */
    CONTROL_RPC_PARAMS,     /* `params` is an array: RPC_INVALID_PARAMS */
};

/*
 * Reads the body of a REQUEST. Returns 0, or a CONTROL_RPC_*; *ret_request->id is what an error is
 * answered with, in every case: `null` where there is none that can be used.
 */
int control_rpc_read_request(struct span body, struct control_rpc_request *ret_request);

/*
 * Reads the body of a HELLO. Returns the version of the control protocol that the peer speaks, or
 * -1 where it is no HELLO of one.
 */
int control_rpc_read_hello(struct span body);

/* Appends a HELLO frame. program: "frontd" or "frontctl". Returns 0 or -ENOMEM. */
int control_rpc_put_hello(struct buf *out, const char *program);

/*
 * Appends a frame; its body is made of `n` parts. Returns 0, or -ENOMEM, or -E2BIG where it is
 * longer than CONTROL_ANSWER_MAX: then nothing is appended.
 */
int control_rpc_put_frame(
    struct buf *out, uint8_t type, uint64_t call, const struct span *parts, size_t n);

/* Appends a GOAWAY: the connection is closed for this reason. Returns 0 or -ENOMEM. */
int control_rpc_put_goaway(struct buf *out, const char *code, const char *reason);
