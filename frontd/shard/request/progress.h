#pragma once

/*
 * What a worker tells the client of a call before it answers (protocol section 8), on routes with
 * `progress: true`: a message on connections that stay. Over HTTP the answer becomes a stream of
 * Server-Sent Events with the first of it, for a client that takes one; the answer is the last
 * event.
 */

#include "frontd/shard/request/request.h"

/* Whether progress of a request's calls can be told. head: of an HTTP request; NULL: of none. */
bool progress_wanted(const struct request *request, const struct http_head *head);

/*
 * A worker tells of progress: call_parts_ops.progress. Returns NULL, or why it is dropped; static
 * text. Where the client does not read, or memory is short, it is dropped without a word.
 */
const char *progress_tell(struct call *call, struct span text, bool binary);

/* Sends the answer of a request whose progress has been told over HTTP. The request is gone
 * afterwards. */
void progress_end(struct request *request, struct span body);
