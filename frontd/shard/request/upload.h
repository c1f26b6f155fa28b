#pragma once

/*
 * Requests whose bodies go to the worker part by part, as they come (protocol section 8): those
 * over limits.body, or of a length that is not known, on routes with `stream_body`. The session
 * starts the request with the head alone, and hands on parts as far as the worker has room.
 */

#include "frontd/shard/request/request.h"

/* How many bytes the body of a request with this head may have if it is taken in parts; 0: it is
 * not, or is refused whatever the body is. */
uint64_t upload_most(const struct client *client, const struct http_head *head);

/* Before request_start(): its body follows, of at most `most` bytes. */
void upload_begin(struct request *request, uint64_t most);

/* How many bytes upload_part() takes now. When there is room again session->upload_room() says so.
 */
size_t upload_room(const struct request *request);

/* More of the body, or its end. The request may be answered, and gone, when this returns. */
void upload_part(struct request *request, struct span bytes, bool last);

/* The body is wrong: the request ends with that status, or breaks off where its answer has begun.
 */
void upload_fail(struct request *request, unsigned status);

/* See struct call_parts_ops. */
void upload_on_room(struct call *call);
