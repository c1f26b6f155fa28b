#pragma once

/* Bodies of requests that came with a content coding, on routes that take them so. */

#include "frontd/codec/gunzip.h"
#include "frontd/codec/http_head.h"
#include "frontd/shard/client/client.h"

/*
 * Whether the body of a request with this head is inflated before the route is given it. body: 0
 * bytes are no body of gzip's, and are passed on as they are.
 */
bool coded_body_is_ours(
    const struct conf_route *route, const struct http_head *head, struct span body);

/*
 * Inflates it, and counts what that has cost as requests that the client has sent.
 *
 * out: zeroed; the caller's afterwards. Returns 0; or the status to answer with: 400 where it is
 * not gzip's, 413 where it is longer than limits.body allows or inflates too much, 503 where memory
 * is short.
 */
unsigned coded_body_read(struct client *client, struct span body, struct buf *out);
