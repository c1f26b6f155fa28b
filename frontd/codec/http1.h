#pragma once

/*
 * HTTP/1.1, one request after the other: bytes in, requests out; and the heads of answers. Pure:
 * no socket, no clock, no memory of its own.
 *
 * The caller keeps the bytes of a request together until it is complete, and passes all of them
 * again with those that have come since. A complete small request is parsed where it was read.
 */

#include "frontd/codec/http1_body.h"
#include "frontd/codec/http1_head.h"

enum http1_phase {
    HTTP1_PHASE_HEAD,
    HTTP1_PHASE_LENGTH,
    HTTP1_PHASE_CHUNKED,
};

/* The state of an incomplete request; zeroed at first, and again by the end of a request. */
struct http1 {
    struct http1_chunked chunked; /* LENGTH, in parts: `left` of the body */
    uint32_t head_len;            /* bytes; known once the head is complete */
    uint32_t body_len;   /* CHUNKED: bytes decoded so far; LENGTH: bytes of the whole body */
    uint8_t phase;       /* enum http1_phase */
    bool continue_asked; /* HTTP1_CONTINUE has been returned */
    bool parts;          /* the body is taken in parts: http1_begin_parts() */
};

struct http1_config {
    struct http1_limits head;
    uint32_t body; /* bytes */
    bool parts;    /* a body may be taken in parts: HTTP1_LARGE */
};

enum http1_event {
    HTTP1_MORE,     /* the request is not complete */
    HTTP1_CONTINUE, /* the head is complete and the client waits for "100 Continue"; once a request
                     */
    HTTP1_REQUEST,  /* a complete request */
    HTTP1_LARGE,    /* with config->parts: a head of whose body the length is over config->body, or
                       not known. http1_begin_parts(), or the same bytes once more without parts */
    HTTP1_ERROR,    /* answer with `status` and close */
};

struct http1_result {
    enum http1_event event;
    unsigned status;  /* HTTP1_ERROR: the status of the answer */
    bool head_known;  /* HTTP1_ERROR: the head was right, the body is refused */
    size_t used;      /* HTTP1_REQUEST: its bytes; the next request follows. HTTP1_LARGE: of the
                         head */
    size_t kept;      /* HTTP1_MORE, HTTP1_CONTINUE: how many of the bytes have to be kept */
    struct span body; /* HTTP1_REQUEST */
};

/*
 * Looks at the `n` bytes at `p`, which begin with the request. A chunked body is decoded in place,
 * so the bytes change and may become fewer (result.kept).
 *
 * The limits may differ from call to call: a head that was complete is not held to limits any
 * more, a body to those of the call that reads of it.
 *
 * ret_head: scratch; valid with HTTP1_CONTINUE, HTTP1_REQUEST and HTTP1_LARGE, and points into `p`.
 * Its method is valid with HTTP1_ERROR, too, where the request line was read (else HTTP_OTHER).
 */
struct http1_result http1_feed(struct http1 *http1, char *p, size_t n,
    const struct http1_config *config, struct http1_head *ret_head);

/* After HTTP1_LARGE: the head has been used, and http1_feed_part() takes the body. */
void http1_begin_parts(struct http1 *http1, const struct http1_head *head);

/*
 * A part of the body from the `n` bytes at `p`, 1 at least, of at most `room` bytes, 1 at least.
 * Returns 0 with how many bytes are used, the part, which may be empty, and whether it is the last
 * one (the state is zeroed then); or the status of the error that the body has. trailer_max: as
 * config->head.head_bytes.
 */
unsigned http1_feed_part(struct http1 *http1, const char *p, size_t n, size_t room,
    uint32_t trailer_max, size_t *ret_used, struct span *ret_part, bool *ret_last);

/*
 * Saves the state for another process, which is given the bytes of the request, too; and restores
 * it. The saved state is not trusted: *ret_http1 is one that http1_feed() can have left behind
 * with these bytes.
 *
 * bytes: those that are kept, from the first one of the request. Returns 0 with *ret_http1, or
 * -EBADMSG.
 */
void http1_save(const struct http1 *http1, struct pack *pack);
int http1_restore(struct http1 *ret_http1, struct unpack *unpack, struct span bytes);

/* The head of an answer. */
struct http1_reply {
    unsigned status;
    unsigned minor;           /* of the request: an answer to HTTP/1.0 says keep-alive */
    bool keep_alive;          /* the connection stays open */
    bool no_length;           /* 204 and 304: no Content-Length at all */
    bool chunked;             /* the body is chunked; with no_length */
    uint64_t content_length;  /* bytes */
    const char *content_type; /* NULL: none */
    struct span fields;       /* further fields, each ending in CRLF */
    struct span cors;         /* further fields, of CORS */
    struct span id;           /* the same, of the request's id */
};

enum {
    HTTP1_DATE_SIZE = 30,       /* "Sun, 06 Nov 1994 08:49:37 GMT" and NUL */
    HTTP1_REPLY_HEAD_MAX = 512, /* bytes of a reply's head, without further fields */
};

/*
 * Writes the head of an answer. out: room for HTTP1_REPLY_HEAD_MAX + reply->fields.n +
 * reply->cors.n + reply->id.n bytes. date: as http1_date() made it. Returns the bytes written.
 */
size_t http1_reply_head(char *out, const struct http1_reply *reply, const char *date);

/* The date of a time in seconds since 1970, as RFC 9110 section 5.6.7 wants it. */
void http1_date(int64_t seconds, char out[static HTTP1_DATE_SIZE]);

/* The reason phrase, "Not Found" and so on; "" for a status that has no standard phrase. */
const char *http1_reason(unsigned status);
