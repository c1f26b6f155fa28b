#pragma once

/* The content codings of HTTP (RFC 9110 section 8.4.1) that the front knows. Pure. */

#include "frontd/codec/http_head.h"

enum content_coding {
    CODING_IDENTITY,
    CODING_GZIP,
    CODING_BR,    /* RFC 7932 */
    CODING_OTHER, /* one that the front does not know, or several */
};

/*
 * The coding of a request's body, by its Content-Encoding fields: identity counts as none, and
 * x-gzip is gzip. A body that was coded twice is CODING_OTHER.
 */
enum content_coding coding_of_body(const struct http_head *head);
