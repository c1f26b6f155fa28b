#pragma once

/* The token of the admin address: Authorization: Bearer, RFC 6750 section 2.1. Pure. */

#include "frontd/codec/http_head.h"

/*
 * Whether a request has the token. One with several Authorization fields has not. The time that it
 * takes tells nothing of the token but its length.
 */
bool bearer_fits(const struct http_head *head, struct span token);
