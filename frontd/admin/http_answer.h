#pragma once

/* The answer of an HTTP/1.1 server to a POST: RFC 9112. Pure. */

#include "common/base.h"

struct http_answer {
    unsigned status;
    bool keep_alive;      /* another request may follow on the connection */
    uint32_t retry_after; /* seconds; 0: not said */
    struct span body;     /* as far as its length is known; else empty */
};

/*
 * Reads an answer from its first byte on. Returns 1 with *ret where it is complete, 0 where more of
 * it has to come, or -EBADMSG. An answer whose body has no Content-Length is complete with its
 * head, and nothing follows it on the connection.
 */
int http_answer_read(struct span bytes, struct http_answer *ret);
