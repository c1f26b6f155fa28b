#pragma once

/* Routes of kind jsonrpc: a body becomes calls, their answers become one again. */

#include "frontd/shard/request/request.h"

/* Returns 0 or -ENOMEM. */
int rpc_init(const struct conf *conf);
void rpc_deinit(void);

/* Starts the calls of a POST, or (head NULL) of a message. */
void rpc_start(struct request *request, const struct http1_head *head, struct span body);

/* One of its calls has ended. */
void rpc_ended(struct request *request, struct call *call, const struct outcome *outcome);

/*
 * Starts waiting members of a batch, as far as its connection may start calls. Returns true where
 * none is left (the request may have ended and be gone), false where some are.
 */
bool rpc_go_on(struct request *request);

/* Its waiting members are not started any more. */
void rpc_drop_rest(struct request *request);

/* Bytes that they take. */
size_t rpc_rest_size(const struct request *request);

/* The text of a JSON-RPC error, appended. id: JSON text. Returns 0 or -ENOMEM. */
int rpc_error_write(struct buf *out, enum rpc_error error, struct span id);
