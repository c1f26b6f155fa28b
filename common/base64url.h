#pragma once

/* base64url without padding (RFC 4648 section 5, RFC 7515 section 2), strictly. Pure. */

#include "common/base.h"

/*
 * Decodes a text to `out`, which has room for `room` bytes. Returns false where the text has a
 * character that is not of the alphabet ('=' and white space among them), a length that no bytes
 * have, bits beyond the last byte that are not 0, or more bytes than there is room for.
 */
bool base64url_decode(struct span text, void *out, size_t room, size_t *ret_n);
