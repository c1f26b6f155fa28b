#pragma once

/*
 * What the config says of calls of a method (struct conf_policy): whether they may be made now, and
 * how long they may take.
 */

#include "frontd/shard/request/request.h"

/* Once, with ctx->share: finds the rows of limits. Returns 0 or -ENOMEM. */
int policy_init(struct ctx *ctx);
void policy_deinit(struct ctx *ctx);

/*
 * Whether a call of that method may be made. head: as in start(); NULL: there is none. Returns 0,
 * and spec->policy is set, with what follows from it; or the error of the call, and nothing is
 * held: RPC_METHOD_NOT_FOUND (denied), RPC_RATE_LIMITED, RPC_OVERLOADED (too many in progress).
 */
enum rpc_error policy_admit(struct request *request, struct span method,
    const struct http_head *head, struct call_spec *spec);
