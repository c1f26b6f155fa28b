#pragma once

/*
 * Bodies of requests with Content-Encoding gzip (RFC 9110 section 8.4.1.3): the format of RFC 1952,
 * inflated in one piece. No socket and no clock; zlib's memory comes from common/alloc.h.
 */

#include "common/buf.h"

enum {
    GUNZIP_RATIO = 100,    /* times its compressed size that a body may have */
    GUNZIP_FREE = 1 << 20, /* bytes that a body may have, however small it came */
    GUNZIP_MEMBERS = 16,   /* of a body: each may be empty, and costs a look at its head */
};

/* What inflates, for all bodies of a process one after the other. Zeroed at first; memory is taken
 * when it is used for the first time. */
struct gunzip {
    struct z_stream_s *stream;
};

void gunzip_deinit(struct gunzip *gunzip);

/*
 * Inflates a body. body: all its members, at least one byte. limit: the bytes that it may have,
 * less than 2^32 - 1. out: emptied, then filled; undefined where the body is refused.
 *
 * Returns 0; -EBADMSG: it is not gzip's, ends in the middle, has a wrong checksum or length, bytes
 * behind its last member, or more than GUNZIP_MEMBERS; -EMSGSIZE: it is over the limit, or over
 * GUNZIP_FREE and GUNZIP_RATIO times its compressed size; -ENOMEM.
 */
int gunzip_body(struct gunzip *gunzip, struct span body, size_t limit, struct buf *out);
