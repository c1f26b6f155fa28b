#pragma once

/* The context that a route asks for, as the meta of a REQUEST (protocol section 5). */

#include "common/buf.h"
#include "frontd/shard/request/request.h"

/*
 * Appends the meta object, or nothing where the request's route asks for none. head: NULL for a
 * message. Returns 0 with *ret_left_at (where "deadline_ms" has its digits; 0: nowhere) and
 * *ret_span_at (where the call's own span has its digits), or -ENOMEM.
 */
int meta_write(struct buf *out, const struct request *request, const struct http_head *head,
    size_t *ret_left_at, size_t *ret_span_at);

/* What the context says of TLS, a JSON object; empty: the route does not ask, or it is plain. */
struct span meta_tls(const struct conf_route *route, const struct client *client);

/* Appends the members of an object with the headers that the route asks for. 0 or -ENOMEM. */
int meta_put_headers(struct buf *out, const struct conf_route *route, const struct http_head *head);

/*
 * The hash by which the pool chooses a worker. peer: of the request, or of its connection. head:
 * NULL for a message. params: n == 0: none.
 */
uint64_t meta_hash(const struct conf_pool *pool, const struct client *client,
    const struct peer *peer, const struct http_head *head, struct span params);
