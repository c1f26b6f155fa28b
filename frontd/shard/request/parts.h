#pragma once

/*
 * Answers that go out part by part (protocol section 8), whatever the client speaks: parts_open()
 * begins one, parts follow as the worker sends them, and it ends complete, or so that the client
 * can tell that it is not. The worker may send more as bytes leave for the client.
 *
 * Server-Sent Events can be continued elsewhere: in a shard that leaves they end between two
 * events, and the client comes back for the rest.
 */

#include "frontd/shard/request/request.h"

/*
 * For a route's begins(): answers a request with reply->body as the first part. Returns whether the
 * answer is under way; false: it has to be whole, or it has no body and has been given already.
 */
bool parts_open(struct request *request, const struct reply *reply);

/* For a route's ended(), of a request that `streams`: its last part, or how the call has failed.
 * The request is gone afterwards. Returns what became of the call. */
enum metric_code parts_end(struct request *request, const struct outcome *outcome);

/* Once, at start: sets what hears of parts, ctx->call_parts_ops and ctx->parts_ops. */
void parts_register(struct ctx *ctx);
