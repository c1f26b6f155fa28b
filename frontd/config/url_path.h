#pragma once

/*
 * The path of a URL in normal form, in which routes are compared with it: percent-encoding is
 * decoded once; empty segments, "." and ".." are resolved. Pure. Every path here begins with '/'
 * and has no query.
 */

#include "common/base.h"

/*
 * Whether a path is in normal form as it stands: it has no '%', no segment "." or "..", and no
 * empty one but the last.
 */
bool path_is_normal(struct span path);

/*
 * Makes the normal form of a path, in one pass from left to right, as nginx does:
 * - an escape is decoded once, so that "%2F" ends a segment and "%2e" is a dot
 * - slashes that follow each other become one, before ".." is resolved
 * - "." is left out, and ".." removes the segment before it
 * - bytes from 0x80 on are taken as they are
 *
 * out: room for path.n bytes, elsewhere. Returns 0 with *ret_n, at least 1; or -EINVAL where there
 * is no normal form: '%' without two digits after it, "%00", or ".." above the root.
 */
int path_normalise(struct span path, char *out, size_t *ret_n);

/*
 * Whether a path is spelled in the only way in which a URL can have its normal form (RFC 3986
 * sections 3.3 and 6.2.2): no segment has to be resolved; bytes that may stand in a path are not
 * escaped, all others are, in capital letters. Then it has a normal form.
 */
bool path_is_strict(struct span path);
