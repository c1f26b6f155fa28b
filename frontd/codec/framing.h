#pragma once

/*
 * The two framings of JSON-RPC on plain TCP: a length before each text, or one text a line. Pure.
 */

#include "common/base.h"

enum line_event {
    LINE_MORE,      /* not complete */
    LINE_MESSAGE,   /* result.payload */
    LINE_HEARTBEAT, /* `frame`: length 0; to be echoed. `line`: an empty line */
    LINE_TOO_BIG,   /* over the limit: to be answered with an error, and closed */
};

struct line_result {
    enum line_event event;
    struct span payload; /* within `p`; without length or line end */
    size_t used;         /* bytes, length or line end included */
};

/*
 * Looks at the `n` bytes at `p` for a message of at most `limit` bytes. LINE_TOO_BIG is returned
 * as soon as the length, or limit + 2 bytes without a line end, are there.
 */
struct line_result line_feed_frame(const char *p, size_t n, uint32_t limit);

/*
 * scanned: how many of the bytes are known to hold no line end; kept by the caller between calls;
 * 0 at first, and again after LINE_MESSAGE and LINE_HEARTBEAT.
 */
struct line_result line_feed_line(const char *p, size_t n, uint32_t limit, size_t *scanned);

/*
 * `frame`: looks for a heartbeat behind messages that may not be started yet, and takes it out of
 * the bytes.
 *
 * looked: how many of the bytes have been passed over (more than there are, within a message that
 * is not complete); kept by the caller, who takes off the bytes that have been used; 0 at first.
 * hole: 0 in the first call of a pass. The pass ends when false is returned, or with
 * line_ahead_end(); both leave *ret_kept bytes at `p`.
 *
 * Returns whether there was one: then it has to be called again with the same p, n and hole.
 */
bool line_ahead_frame(
    char *p, size_t n, uint32_t limit, size_t *looked, size_t *hole, size_t *ret_kept);
size_t line_ahead_end(char *p, size_t n, size_t looked, size_t *hole);

/*
 * Whether a line is how another protocol begins, and no JSON text: the first line of an HTTP
 * request (RFC 9112 section 3), or a TLS record (RFC 8446 section 5.1). A browser sends these to
 * any port, for a page of any site, and behind them bytes of the page's choice, which may be whole
 * messages.
 */
bool line_is_foreign(struct span line);
