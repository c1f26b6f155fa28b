#pragma once

/*
 * The path of a URL as routes are compared with it: percent-encoding is decoded once, segments that
 * are empty, "." or ".." are resolved. Pure. Every path here begins with '/' and has no query.
 */

#include "common/base.h"

/*
 * Whether a path is in normal form as it stands: it has no '%', and no segment that is "." or "..",
 * or empty and not the last one. Then it is what routes are compared with.
 */
bool path_is_normal(struct span path);

/*
 * Makes the normal form of a path, in one pass from left to right, as nginx does: an escape counts
 * as the byte that it stands for, so that "%2F" ends a segment and "%2e" is a dot, and what it
 * gives is not decoded again; slashes that follow each other are one before ".." is looked at; "."
 * is left out, and ".." takes the segment before it along. Bytes from 0x80 on are bytes.
 *
 * out: room for path.n bytes, elsewhere. Returns 0 with *ret_n, at least 1; or -EINVAL where there
 * is no normal form: '%' without two digits behind it, "%00", or ".." above the root.
 */
int path_normalise(struct span path, char *out, size_t *ret_n);

/*
 * Whether a path is spelled in the only way in which its normal form can be in a URL (RFC 3986
 * sections 3.3 and 6.2.2): no segment to be resolved; what may stand in a path stands there as it
 * is, any other byte is an escape, in capital letters. There is a normal form then.
 */
bool path_is_strict(struct span path);
