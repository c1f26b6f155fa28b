#pragma once

/* Routes of kind jsonrpc: a body becomes calls, their answers become one again. */

#include "frontd/shard/request/route_ops.h"

/* Of a shard. */
struct jsonrpc {
    struct jsonrpc_request *members; /* of the batch being looked at: limits.batch of them */
    size_t room;
    uint64_t dropped; /* Responses of clients, by this process */
};

/* It is ctx->jsonrpc then. Returns 0 or -ENOMEM. */
int jsonrpc_init(struct jsonrpc *jsonrpc, struct ctx *ctx);

/* Says in the log what was dropped. */
void jsonrpc_deinit(struct jsonrpc *jsonrpc);

extern const struct route_ops jsonrpc_route;

/* The same for messages on plain TCP: `protocol` frame and line have a route of this kind each. */
extern const struct route_ops stream_route;

/* Starts the calls of a message (head NULL) on a route that is for connections that stay. */
void jsonrpc_start(struct request *request, const struct http_head *head, struct span body);

/* One of its calls has ended. */
void jsonrpc_ended(struct request *request, struct call *call, const struct outcome *outcome);

/* Members of a batch that wait: see struct route_ops. */
bool jsonrpc_go_on(struct request *request);
void jsonrpc_drop_rest(struct request *request);
size_t jsonrpc_rest_size(const struct request *request);
