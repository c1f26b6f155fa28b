#pragma once

/*
 * The head of an HTTP request of any version: what routes, checks and workers look at. The head of
 * a version (http1_head.h) contains it. Pure.
 */

#include "common/base.h"

enum { HTTP_FIELDS_MAX = 256 /* the most that the config may allow as limits.headers */ };

enum http_method {
    HTTP_OTHER, /* any other token */
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_PATCH,
    HTTP_OPTIONS,
    HTTP_CONNECT,
    HTTP_TRACE,
};

/* The form of the target: RFC 9112 section 3.2. */
enum http_form { HTTP_ORIGIN, HTTP_ABSOLUTE, HTTP_AUTHORITY, HTTP_ASTERISK };

/* Fields that the codec itself has to know; every other one is HTTP_F_OTHER. */
enum http_known {
    HTTP_F_OTHER,
    HTTP_F_HOST,
    HTTP_F_CONTENT_LENGTH,
    HTTP_F_CONTENT_ENCODING,
    HTTP_F_TRANSFER_ENCODING,
    HTTP_F_CONNECTION,
    HTTP_F_EXPECT,
    HTTP_F_KEEP_ALIVE,
    HTTP_F_PROXY_CONNECTION,
    HTTP_F_PROXY_AUTHENTICATE,
    HTTP_F_PROXY_AUTHORIZATION,
    HTTP_F_TE,
    HTTP_F_TRAILER,
    HTTP_F_UPGRADE,
};

struct http_field {
    struct span name;  /* as sent */
    struct span value; /* without surrounding white space; Host: see `authority` */
    uint8_t known;     /* enum http_known */
    bool hop_by_hop;   /* never forwarded: RFC 9110 section 7.6.1, named by Connection or not */
};

/* Every span points into the bytes that were parsed. */
struct http_head {
    struct span method_text;
    struct span path;  /* origin and absolute form: as sent, not decoded, "/" where it is empty */
    struct span query; /* after '?'; n == 0 where there is none */
    /* Of the target (absolute, authority form) if any, else of Host. Where the target has one, the
     * Host field that was sent is ignored and its value in `fields` is this one (RFC 9112 section
     * 3.2.2), so that all readers see the same. */
    struct span authority;
    uint16_t nfields;
    uint8_t method;       /* enum http_method */
    uint8_t form;         /* enum http_form */
    bool may_upgrade;     /* the version has Upgrade: HTTP/1.1 alone (RFC 9110 section 7.8) */
    bool websocket;       /* HTTP/2: an extended CONNECT for WebSocket (RFC 8441 section 5) */
    bool expect_continue; /* Expect: 100-continue (never set for HTTP/1.0) */
    bool content_coded;   /* Content-Encoding lists another coding than identity */
    struct http_field fields[HTTP_FIELDS_MAX];
};

/* The first field of that name (case-insensitive, lower-case given); NULL where there is none. */
const struct http_field *http_head_find(const struct http_head *head, struct span lower_name);
