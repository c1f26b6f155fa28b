#pragma once

/* Routes of kind jsonrpc: a body becomes calls, their answers become one again. */

#include "frontd/shard/request.h"

/* Returns 0 or -ENOMEM. */
int rpc_init(const struct conf *conf);
void rpc_deinit(void);

/* Starts the calls of a POST, or (head NULL) of a message. */
void rpc_start(struct request *request, const struct http1_head *head, struct span body);

/* One of its calls has ended. */
void rpc_ended(struct request *request, struct call *call, const struct outcome *outcome);

/* The text of a JSON-RPC error, appended. id: JSON text. Returns 0 or -ENOMEM. */
int rpc_error_write(struct buf *out, enum rpc_error error, struct span id);
