#pragma once

/* The context that a route asks for, as the meta of a REQUEST (protocol section 5). */

#include "common/buf.h"
#include "frontd/shard/client.h"

/*
 * Appends the meta object, or nothing where the route asks for none.
 * Returns 0 with *ret_left_at (where "deadline_ms" has its digits; 0: nowhere), or -ENOMEM.
 */
int meta_write(struct buf *out, const struct conf_route *route, const struct client *client,
    const struct http1_head *head, size_t *ret_left_at);

/* What the pool's hash is taken of. params: of the call, n == 0: none. */
uint64_t meta_hash(const struct conf_pool *pool, const struct client *client,
    const struct http1_head *head, struct span params);
