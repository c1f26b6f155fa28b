#pragma once

/*
 * HTTP/1.1 requests, several of which may be in progress on a connection; their answers go out in
 * order. What a client sees depends on its bytes alone, not on where the segments end: an upgrade
 * that comes while requests before it are in progress waits for its turn, since no answer can
 * follow 101, and with it waits what comes behind, which may be messages.
 */

#include "frontd/codec/http1.h"
#include "frontd/shard/client/client.h"

extern const struct session_ops http1_session;

/* An upgrade, which is not the first request in progress: keeps its head until it is. */
void http1_hold(struct request *request, const struct http_head *head);
