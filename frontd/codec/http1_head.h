#pragma once

/* The head of an HTTP/1.1 request: request line and fields (RFC 9112 sections 2 to 6). Pure. */

#include "frontd/codec/http_head.h"

enum { HTTP1_E_MORE = 1 /* the head is not complete yet; other errors are HTTP status codes */ };

struct http1_limits {
    uint32_t head_bytes; /* request line and fields, the empty line included */
    uint32_t fields;     /* at most HTTP_FIELDS_MAX */
};

/* A head with what only HTTP/1 has. Every span points into the bytes that were parsed. */
struct http1_head {
    struct span text;        /* the whole head, with the empty line */
    struct span target;      /* as sent */
    uint64_t content_length; /* bytes; 0 when has_length is false */
    uint8_t minor;           /* 0: HTTP/1.0; 1: HTTP/1.1 and any later 1.x */
    bool has_length;         /* Content-Length is there */
    bool chunked;            /* Transfer-Encoding: chunked is there */
    bool keep_alive;         /* the client lets the connection go on after the answer */
    struct http_head http;
};

/*
 * Parses a head that starts at `p`. Empty lines before the request line are skipped.
 *
 * Strict: every line ends in CRLF; a request that two recipients could read in two ways is
 * refused. An error is reported as soon as it is seen, even when the head is not complete.
 *
 * Returns 0 with *ret_head and *ret_used (bytes up to and with the empty line), HTTP1_E_MORE, or
 * the status to answer before closing the connection:
 * - 400
 * - 414: the request line does not fit
 * - 417: an expectation other than 100-continue
 * - 431: the fields do not fit; or they, or the options of Connection, are too many
 * - 501: a transfer coding before chunked
 * - 505
 *
 * *ret_head is scratch on failure, except for http.method: HTTP_OTHER until it has been read.
 */
int http1_head_parse(const char *p, size_t n, const struct http1_limits *limits,
    struct http1_head *ret_head, size_t *ret_used);
