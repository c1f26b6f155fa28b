#pragma once

/* The chunked transfer coding (RFC 9112 section 7.1), decoded as it arrives. Pure. */

#include "common/pack.h"

enum {
    HTTP1_CHUNK_LINE_MAX = 1024, /* bytes of one chunk-size line, extensions and CRLF included */
};

enum http1_body_event {
    HTTP1_BODY_MORE, /* all bytes used, more are needed */
    HTTP1_BODY_DATA, /* *ret_data has body bytes */
    HTTP1_BODY_DONE, /* the last chunk and the trailers have been read */
};

/* Between two calls; starts zeroed. */
struct http1_chunked {
    uint64_t left; /* bytes of the current chunk that are to come; while its size line is read, the
                      size so far */
    uint32_t excess; /* bytes of size lines beyond what the data allows; then, bytes of trailers so
                        far */
    uint16_t line;   /* bytes of the current chunk-size line so far */
    uint8_t state;
};

/*
 * Uses up to `n` bytes at `p` and returns one event. To be called again with the rest until it
 * returns HTTP1_BODY_MORE or HTTP1_BODY_DONE. After an error the state must not be used again.
 *
 * trailer_max: bytes that all trailer fields together may have, each with its CRLF (the limit of
 * the head). Trailer fields are checked and dropped.
 *
 * Returns an enum http1_body_event with *ret_used and, for DATA, *ret_data (borrowed from `p`); or
 * minus the HTTP status:
 * - -400: not chunked coding (size overflow, bare LF, bad extension, bad trailer), a size line
 *   that is too long, or size lines that are much longer than their data
 * - -431: trailers over the limit
 */
int http1_chunked_feed(struct http1_chunked *state, const char *p, size_t n, uint32_t trailer_max,
    size_t *ret_used, struct span *ret_data);

/* Bytes of the current chunk that are still to come; 0 while its size line is not complete. */
uint64_t http1_chunked_left(const struct http1_chunked *state);

/* For another process: see http1_save() and http1_restore(). */
void http1_chunked_save(const struct http1_chunked *state, struct pack *pack);
int http1_chunked_restore(struct http1_chunked *ret_state, struct unpack *unpack);
