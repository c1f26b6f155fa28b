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

/*
 * The coding of an answer's body that a client likes best, by its Accept-Encoding fields (RFC 9110
 * section 12.5.3): of those `offered`, the one with the highest weight, the first one where several
 * have that; CODING_IDENTITY where none is acceptable, where identity is listed with a higher
 * weight, and where there is no such field. An element that cannot be read counts as not there; of
 * a coding that is there twice the lower weight counts.
 */
enum content_coding coding_accepted(
    const struct http_head *head, const uint8_t *offered, size_t noffered);
