#pragma once

/*
 * Header fields of answers whose body is given a content coding on the way (RFC 9110 section
 * 8.4). Fields are lines: "Name: value" and CRLF each. Pure.
 */

#include "common/buf.h"
#include "frontd/codec/content_coding.h"

struct coded_answer {
    struct span type; /* the media type without parameters; n == 0: none is given */
    bool fixed;       /* the body has to stay as it is */
};

/*
 * What the fields say of a body. It is fixed where it has a coding already, is a part (RFC 9110
 * section 14), is not to be transformed (RFC 9111 section 5.2.2.6), or a digest of it is among the
 * fields (RFC 9530, and Content-MD5).
 */
struct coded_answer coded_answer_look(struct span fields);

/*
 * Whether a media type fits a pattern, as case does not count: "text/html", or "text" and a slash
 * and '*' for all its subtypes.
 */
bool coded_answer_fits(struct span type, struct span pattern);

/*
 * Appends the fields as they are with a coding. Vary lists accept-encoding in any case; with
 * another coding than identity there is Content-Encoding, a strong ETag becomes a weak one (RFC
 * 9110 section 8.8.1: the bytes are others), and Accept-Ranges is left out. has_body: false for
 * 304, which has no Content-Encoding. Returns 0 or -ENOMEM.
 */
int coded_answer_write(
    struct span fields, enum content_coding coding, bool has_body, struct buf *out);
