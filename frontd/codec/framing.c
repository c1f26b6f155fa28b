#include "frontd/codec/framing.h"

#include <endian.h>
#include <string.h>

static struct line_result message(const char *p, size_t n, size_t used)
{
    return (struct line_result){n == 0 ? LINE_HEARTBEAT : LINE_MESSAGE, {p, n}, used};
}

struct line_result line_feed_frame(const char *p, size_t n, uint32_t limit)
{
    uint32_t length;
    if (n < sizeof(length))
        return (struct line_result){.event = LINE_MORE};
    memcpy(&length, p, sizeof(length));
    length = be32toh(length);
    if (length > limit)
        return (struct line_result){.event = LINE_TOO_BIG};
    if (length > n - sizeof(length))
        return (struct line_result){.event = LINE_MORE};
    return message(p + sizeof(length), length, sizeof(length) + length);
}

size_t line_ahead_end(char *p, size_t n, size_t looked, size_t *hole)
{
    const size_t kept = n - *hole;
    if (*hole > 0 && looked < kept)
        memmove(p + looked, p + looked + *hole, kept - looked);
    *hole = 0;
    return kept;
}

bool line_ahead_frame(
    char *p, size_t n, uint32_t limit, size_t *looked, size_t *hole, size_t *ret_kept)
{
    uint32_t length;
    while (*looked < n - *hole && n - *hole - *looked >= sizeof(length)) {
        char *frame = p + *looked + *hole;
        memcpy(&length, frame, sizeof(length));
        length = be32toh(length);
        if (length == 0) {
            *hole += sizeof(length);
            return true;
        }
        if (length > limit)
            break; /* refused when the frame's turn comes */
        const size_t size = sizeof(length) + (size_t)length;
        if (*hole > 0)
            memmove(p + *looked, frame, MIN(size, n - *hole - *looked));
        *looked += size;
    }
    *ret_kept = line_ahead_end(p, n, *looked, hole);
    return false;
}

struct line_result line_feed_line(const char *p, size_t n, uint32_t limit, size_t *scanned)
{
    /* The longest line that can be right ends in CRLF. */
    const size_t longest = (size_t)limit + 2;
    const size_t look = MIN(n, longest);
    const char *lf = NULL;
    if (*scanned < look)
        lf = memchr(p + *scanned, '\n', look - *scanned);
    if (lf == NULL) {
        *scanned = look;
        return (struct line_result){.event = look == longest ? LINE_TOO_BIG : LINE_MORE};
    }
    size_t length = (size_t)(lf - p);
    if (length > 0 && lf[-1] == '\r')
        length--;
    if (length > limit)
        return (struct line_result){.event = LINE_TOO_BIG};
    *scanned = 0;
    return message(p, length, (size_t)(lf - p) + 1);
}

bool line_is_foreign(struct span line)
{
    static const char version[] = " HTTP/1.1"; /* the last digit may be another */
    static const char handshake[] = {0x16, 0x03};
    const size_t n = sizeof(version) - 1;
    if (line.n > n && memcmp(line.p + line.n - n, version, n - 1) == 0)
        return true;
    return line.n >= sizeof(handshake) && memcmp(line.p, handshake, sizeof(handshake)) == 0;
}
