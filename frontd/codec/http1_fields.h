#pragma once

/*
 * The fields of an HTTP/1.1 request's head (RFC 9112 section 5), for http1_head.c; and what HTTP/2
 * has of them. Pure.
 */

#include "frontd/codec/http1_head.h"

/*
 * A head that is being parsed, and what its fields say together, which is judged when the last of
 * them has been read.
 */
struct http1_parse {
    const char *p;   /* the next byte */
    const char *end; /* the end of the input, or of what the limit allows */
    struct http1_head *head;
    struct span host;
    uint32_t options;   /* names in Connection fields so far */
    bool has_host;      /* a Host field was read */
    bool has_coding;    /* a Transfer-Encoding field was read */
    bool other_coding;  /* a transfer coding other than chunked was read */
    bool last_chunked;  /* the last transfer coding so far is chunked */
    bool close;         /* Connection: close */
    bool keep_alive;    /* Connection: keep-alive */
    bool names_a_field; /* Connection has an option that may be the name of a field */
};

/* A line ends in CRLF (RFC 9112 section 2.2 would let a bare LF pass). */
static inline int http1_parse_crlf(struct http1_parse *parse)
{
    if (parse->p == parse->end)
        return HTTP1_E_MORE;
    if (*parse->p != '\r')
        return 400;
    if (parse->p + 1 == parse->end)
        return HTTP1_E_MORE;
    if (parse->p[1] != '\n')
        return 400;
    parse->p += 2;
    return 0;
}

/*
 * Parses the fields and the empty line behind them. fields_max: with more fields the status is
 * 431. Returns 0, HTTP1_E_MORE, or the status to refuse with.
 */
int http1_fields_parse(struct http1_parse *parse, uint32_t fields_max);

/*
 * Marks the fields that Connection names as hop-by-hop, but none that the codec knows: a client
 * that names Host or Content-Length there would have the next recipient read another request.
 */
void http1_fields_mark_named(struct http_head *head);

/* Which field that the codecs have to know a name is (a token, in any case): enum http_known. */
int http1_known_name(struct span name);

/* Whether such a field is never forwarded (RFC 9110 section 7.6.1). known: enum http_known. */
bool http1_is_hop_by_hop(int known);
