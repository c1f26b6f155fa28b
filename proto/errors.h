#pragma once

/* Errors of the front (protocol section 6), and those of JSON-RPC 2.0 itself. */

#include "common/buf.h"

enum rpc_error {
    RPC_PARSE_ERROR = -32700,
    RPC_INVALID_REQUEST = -32600,
    RPC_METHOD_NOT_FOUND = -32601,
    RPC_INVALID_PARAMS = -32602,
    RPC_INTERNAL_ERROR = -32603,
    RPC_CANCELLED = -32800, /* customary for a call that was cancelled (section 5) */
    RPC_OVERLOADED = -32001,
    RPC_WORKER_LOST = -32002,
    RPC_DEADLINE_EXCEEDED = -32003,
    RPC_UNAVAILABLE = -32004,
    RPC_TOO_LARGE = -32005,
    RPC_RATE_LIMITED = -32006,
    RPC_BAD_RESPONSE = -32007,
    RPC_UNAUTHORIZED = -32008,
    RPC_FORBIDDEN = -32009,
};

/* The message of a code of section 6; static text. */
const char *rpc_error_message(enum rpc_error code);

/* The HTTP status of a code. */
unsigned rpc_error_status(enum rpc_error code);

/* Appends the text of a JSON-RPC error. id: JSON text. Returns 0 or -ENOMEM. */
int rpc_error_write(struct buf *out, enum rpc_error error, struct span id);
