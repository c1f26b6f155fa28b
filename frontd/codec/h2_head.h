#pragma once

/*
 * The head of an HTTP/2 request (RFC 9113 section 8): a list of fields becomes what routes, checks
 * and workers look at, in the same form as a head of HTTP/1. Pure.
 */

#include "frontd/codec/h2_hpack.h"
#include "frontd/codec/http_head.h"

/* A head with what only HTTP/2 has. Every span points into the list's text. */
struct h2_head {
    struct span scheme;      /* "http" or "https", in any case; n == 0 with plain CONNECT */
    struct span protocol;    /* of an extended CONNECT (RFC 8441 section 4); n == 0: it is none */
    uint64_t content_length; /* bytes; 0 when has_length is false */
    bool has_length;         /* Content-Length is there */
    struct span text;        /* that was read */
    struct http_head http;
};

/*
 * Reads the list of a request's header block.
 *
 * An extended CONNECT is read wherever it comes: whether it may is up to what the client was told.
 *
 * Where :authority is there, it is what the Host field says too (as the first field), so that all
 * readers see the same; a Host that says something else is a fault.
 *
 * fields_max: at most HTTP_FIELDS_MAX. Returns 0 with *ret_head; an enum h2_fault, where the
 * request is malformed (section 8.1.1); or the status to answer with: 417 for an expectation other
 * than 100-continue, 431 for more fields than fields_max. *ret_head is scratch on failure, except
 * for http.method: HTTP_OTHER until it is known.
 */
int h2_head_read(struct span text, uint32_t fields_max, struct h2_head *ret_head);

/* Whether a list is one of trailers (section 8.1): H2_OK or what is wrong. */
enum h2_fault h2_trailers_check(struct span text);
