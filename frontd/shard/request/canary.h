#pragma once

/*
 * A route with a `canary` gives the calls of some clients to another pool: of so many percent of
 * addresses, always the same ones, and of those that ask for it by a header field.
 */

#include "frontd/shard/client/client.h"

/*
 * Whether calls of this client are for the route's canary. conn: its connection's id, which counts
 * where it has no address. head: of its request; NULL: it has none.
 */
bool canary_takes(const struct conf_route *route, const struct peer *peer, uint64_t conn,
    const struct http_head *head);

/*
 * The pool that a call of this method is for: that of the canary, where the client is one of its,
 * it takes the method, and has a worker. Returns its number in the config; -1: none takes it.
 */
int canary_pool(
    const struct ctx *ctx, const struct conf_route *route, struct span method, bool canary);
