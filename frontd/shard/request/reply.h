#pragma once

/* The answer to a request of HTTP, as a route makes it and a session sends it. */

#include "common/base.h"

/* What an answer has besides its body. */
struct reply {
    unsigned status;
    const char *content_type; /* NULL: none */
    struct span fields;       /* further header fields, each ending in CRLF */
    struct span body;
    uint64_t length; /* of the body that GET would give: for HEAD, and status 304 */
    bool has_length; /* `length` is set */
    bool no_length;  /* HEAD: the length of what GET would give is not known */
};

/* Whether an answer of that status has no body, whatever the request was (RFC 9110 sections 15.3.5,
 * 15.3.6 and 15.4.5). */
static inline bool reply_is_bodiless(unsigned status)
{
    return status == 204 || status == 205 || status == 304;
}
