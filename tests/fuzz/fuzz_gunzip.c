/*
 * A body of gzip's, after a byte for its limit: what is accepted is what zlib alone makes of its
 * members, one after the other.
 */

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "common/alloc.h"
#include "frontd/codec/gunzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIZE = 1 << 16 };

/* What zlib makes of it: its bytes; -1: it is wrong, or too long. */
static long inflate_plainly(const uint8_t *p, size_t n, char *out)
{
    size_t len = 0;
    for (int members = 0; members == 0 || n > 0; members++) {
        z_stream stream = {.next_in = (unsigned char *)(uintptr_t)p,
            .avail_in = (unsigned)n,
            .next_out = (unsigned char *)out + len,
            .avail_out = (unsigned)(SIZE - len)};
        CHECK(inflateInit2(&stream, 31) == Z_OK);
        const int r = inflate(&stream, Z_FINISH);
        const bool full = stream.avail_out == 0;
        len = SIZE - stream.avail_out;
        p += n - stream.avail_in;
        n = stream.avail_in;
        inflateEnd(&stream);
        if (r != Z_STREAM_END || full || members >= GUNZIP_MEMBERS)
            return -1;
    }
    return (long)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gunzip gunzip;
    static char expected[SIZE];
    if (size < 2)
        return 0;
    const size_t limit = (size_t)data[0] * 16, n = size - 1;
    char *copy = malloc(n); /* ends where the input ends */
    CHECK(copy != NULL);
    memcpy(copy, data + 1, n);
    struct buf out = {0};
    const int r = gunzip_body(&gunzip, (struct span){copy, n}, limit, &out);
    const long want = inflate_plainly(data + 1, n, expected);
    CHECK(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
    CHECK(buf_len(&out) <= limit + 1);
    if (r == 0)
        CHECK(want == (long)buf_len(&out) &&
              (want == 0 || memcmp(buf_data(&out), expected, (size_t)want) == 0));
    if (want >= 0 && (size_t)want <= limit)
        CHECK(r == 0);
    buf_deinit(&out);
    free(copy);
    return 0;
}
