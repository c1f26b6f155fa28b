#pragma once

/* Routes of kind jsonrpc: a body becomes calls, their answers become one again. */

#include "frontd/shard/request/route_ops.h"

/* What the routes of a shard share. */
struct jsonrpc {
    struct jsonrpc_request *members; /* of the batch being looked at: limits.batch of them */
    size_t room;
    uint64_t dropped; /* Responses of clients, by this process */
};

/* Makes it ctx->jsonrpc. Returns 0 or -ENOMEM. */
int jsonrpc_init(struct jsonrpc *jsonrpc, struct ctx *ctx);

/* Frees it; the log says how many Responses were dropped. */
void jsonrpc_deinit(struct jsonrpc *jsonrpc);

extern const struct route_ops jsonrpc_route;

/* The same for messages on plain TCP: `protocol` frame and line have a route of this kind each. */
extern const struct route_ops stream_route;

/* For routes of duplex connections, whose messages are JSON-RPC, too: functions of route_ops. */
void jsonrpc_start(struct request *request, const struct http_head *head, struct span body);

enum metric_code jsonrpc_ended(
    struct request *request, struct call *call, const struct outcome *outcome);
bool jsonrpc_go_on(struct request *request);
void jsonrpc_drop_rest(struct request *request);
size_t jsonrpc_rest_size(const struct request *request);
