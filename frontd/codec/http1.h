#pragma once

/*
 * HTTP/1.1, one request after the other: bytes in, requests out; and the heads of answers. Pure: no
 * socket, no clock, no memory of its own.
 *
 * The caller keeps the bytes of a request together until it is complete, and hands the whole of
 * them in again with what has been added. A complete small request is parsed where it was read.
 */

#include "frontd/codec/http1_body.h"
#include "frontd/codec/http1_head.h"

enum http1_phase {
    HTTP1_PHASE_HEAD,
    HTTP1_PHASE_LENGTH,
    HTTP1_PHASE_CHUNKED,
};

/* Of an incomplete request; starts zeroed, and is zeroed again by the end of a request. */
struct http1 {
    struct http1_chunked chunked;
    uint32_t head_len;   /* bytes; known once the head is complete */
    uint32_t body_len;   /* CHUNKED: bytes decoded so far; LENGTH: bytes of the whole body */
    uint8_t phase;       /* enum http1_phase */
    bool continue_asked; /* HTTP1_CONTINUE has been given */
};

struct http1_config {
    struct http1_limits head;
    uint32_t body; /* bytes */
};

enum http1_event {
    HTTP1_MORE,     /* the request is not complete */
    HTTP1_CONTINUE, /* the head is complete and the client waits for "100 Continue"; given once */
    HTTP1_REQUEST,  /* a complete request */
    HTTP1_ERROR,    /* answer with `status` and close */
};

struct http1_result {
    enum http1_event event;
    unsigned status;  /* HTTP1_ERROR: of the answer */
    bool head_known;  /* HTTP1_ERROR: the head was right, its body is what is refused */
    size_t used;      /* HTTP1_REQUEST: bytes of it; what follows is the next request */
    size_t kept;      /* HTTP1_MORE, HTTP1_CONTINUE: how many of the bytes are still to be kept */
    struct span body; /* HTTP1_REQUEST */
};

/*
 * The limits may differ from call to call: a head that was complete is held to none any more, a
 * body to those of the call that reads of it.
 *
 * Looks at the `n` bytes at `p`, which begin with the request. A chunked body is decoded in place,
 * so the bytes change and may become fewer (result.kept).
 *
 * ret_head: scratch that is valid with HTTP1_CONTINUE and HTTP1_REQUEST, pointing into `p`; its
 * method also with HTTP1_ERROR where the request line was read (else HTTP_OTHER).
 */
struct http1_result http1_feed(struct http1 *http1, char *p, size_t n,
    const struct http1_config *config, struct http1_head *ret_head);

/*
 * For another process, which is given the bytes of the request too. What is read is believed in
 * nothing: *ret_http1 is a state that http1_feed() can have left behind with these bytes.
 *
 * bytes: those that are kept, the request's first one first.
 * Returns 0 with *ret_http1, or -EBADMSG.
 */
void http1_save(const struct http1 *http1, struct pack *pack);
int http1_restore(struct http1 *ret_http1, struct unpack *unpack, struct span bytes);

/* How an answer begins. */
struct http1_reply {
    unsigned status;
    unsigned minor;           /* of the request: HTTP/1.0 has to be told of keep-alive */
    bool keep_alive;          /* the connection goes on */
    bool no_length;           /* 204 and 304: no Content-Length at all */
    uint64_t content_length;  /* bytes */
    const char *content_type; /* NULL: none */
    struct span fields;       /* further fields, each ending in CRLF */
    struct span cors;         /* more of them */
};

enum {
    HTTP1_DATE_SIZE = 30,       /* "Sun, 06 Nov 1994 08:49:37 GMT" and NUL */
    HTTP1_REPLY_HEAD_MAX = 512, /* bytes of a reply's head, without `fields` and `cors` */
};

/*
 * Writes the head of an answer. out: room for HTTP1_REPLY_HEAD_MAX + reply->fields.n +
 * reply->cors.n bytes.
 * date: as http1_date() made it. Returns the bytes written.
 */
size_t http1_reply_head(char *out, const struct http1_reply *reply, const char *date);

/* The date of a time in seconds since 1970, as RFC 9110 section 5.6.7 wants it. */
void http1_date(int64_t seconds, char out[static HTTP1_DATE_SIZE]);

/* "Not Found" and so on; "" for a status that has no standard text. */
const char *http1_reason(unsigned status);
