#pragma once

/* The head of an HTTP/1.1 request: request line and fields (RFC 9112 sections 2 to 6). Pure. */

#include "common/base.h"

enum {
    HTTP1_FIELDS_MAX = 256, /* the most that the config may allow as limits.headers */
    HTTP1_E_MORE = 1,       /* the head is not complete yet; other errors are HTTP status codes */
};

enum http1_method {
    HTTP1_OTHER, /* any other token */
    HTTP1_GET,
    HTTP1_HEAD,
    HTTP1_POST,
    HTTP1_PUT,
    HTTP1_DELETE,
    HTTP1_PATCH,
    HTTP1_OPTIONS,
    HTTP1_CONNECT,
    HTTP1_TRACE,
};

/* RFC 9112 section 3.2 */
enum http1_form { HTTP1_ORIGIN, HTTP1_ABSOLUTE, HTTP1_AUTHORITY, HTTP1_ASTERISK };

/* Fields that the codec itself has to know; everything else is HTTP1_F_OTHER. */
enum http1_known {
    HTTP1_F_OTHER,
    HTTP1_F_HOST,
    HTTP1_F_CONTENT_LENGTH,
    HTTP1_F_CONTENT_ENCODING,
    HTTP1_F_TRANSFER_ENCODING,
    HTTP1_F_CONNECTION,
    HTTP1_F_EXPECT,
    HTTP1_F_KEEP_ALIVE,
    HTTP1_F_PROXY_CONNECTION,
    HTTP1_F_PROXY_AUTHENTICATE,
    HTTP1_F_PROXY_AUTHORIZATION,
    HTTP1_F_TE,
    HTTP1_F_TRAILER,
    HTTP1_F_UPGRADE,
};

struct http1_field {
    struct span name;  /* as sent */
    struct span value; /* without surrounding white space; Host: see `authority` */
    uint8_t known;     /* enum http1_known */
    bool hop_by_hop;   /* never forwarded: RFC 9110 section 7.6.1, named by Connection or not */
};

struct http1_limits {
    uint32_t head_bytes; /* request line and fields, the empty line included */
    uint32_t fields;     /* at most HTTP1_FIELDS_MAX */
};

/* Every span points into the bytes that were parsed. */
struct http1_head {
    struct span text; /* all of it, with the empty line */
    struct span method_text;
    struct span target; /* as sent */
    struct span path;   /* origin and absolute form: as sent, not decoded, "/" where it is empty */
    struct span query;  /* after '?'; n == 0 where there is none */
    /* Of the target (absolute, authority form) if any, else of Host. RFC 9112 section 3.2.2: where
     * the target has one the Host field that was sent is ignored, and its value in `fields` is this
     * one, so that nobody is shown another. */
    struct span authority;
    uint64_t content_length; /* bytes; 0 when has_length is false */
    uint16_t nfields;
    uint8_t method;       /* enum http1_method */
    uint8_t form;         /* enum http1_form */
    uint8_t minor;        /* 0: HTTP/1.0; 1: HTTP/1.1 and any later 1.x */
    bool has_length;      /* Content-Length is there */
    bool chunked;         /* Transfer-Encoding: chunked is there */
    bool keep_alive;      /* the connection may go on after the answer, as far as the client goes */
    bool expect_continue; /* Expect: 100-continue (never set for HTTP/1.0) */
    bool content_coded;   /* Content-Encoding lists another coding than identity */
    struct http1_field fields[HTTP1_FIELDS_MAX];
};

/*
 * Parses a head that starts at `p`. Empty lines before the request line are skipped.
 *
 * Strict: every line ends in CRLF; a request that two implementations could read in two ways is
 * refused. What is wrong is refused as soon as it is seen, though the head be incomplete.
 *
 * Returns 0 with *ret_head and *ret_used (bytes up to and with the empty line), HTTP1_E_MORE, or
 * the status to answer before closing the connection: 400, 414 (the request line does not fit),
 * 417 (an expectation other than 100-continue), 431 (fields do not fit; or they, or the options of
 * Connection, are too many), 501 (a transfer coding before chunked), 505.
 * *ret_head is scratch on failure, except for method: HTTP1_OTHER until it has been read.
 */
int http1_head_parse(const char *p, size_t n, const struct http1_limits *limits,
    struct http1_head *ret_head, size_t *ret_used);

/* The first field of that name (case-insensitive, lower-case given); NULL where there is none. */
const struct http1_field *http1_head_find(const struct http1_head *head, struct span lower_name);
