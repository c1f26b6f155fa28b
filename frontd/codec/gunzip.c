#include "frontd/codec/gunzip.h"

#include <errno.h>
#include <zlib.h>

#include "frontd/codec/zlib_memory.h"

enum { GZIP_BITS = 16 + 15 /* zlib: the format of gzip, with the largest window */ };

void gunzip_deinit(struct gunzip *gunzip)
{
    if (gunzip->stream != NULL)
        inflateEnd(gunzip->stream);
    gunzip->stream = coding_give(gunzip->stream);
}

static z_stream *stream_of(struct gunzip *gunzip)
{
    if (gunzip->stream != NULL)
        return inflateReset(gunzip->stream) == Z_OK ? gunzip->stream : NULL;
    z_stream *stream = zlib_stream_new();
    if (stream == NULL || inflateInit2(stream, GZIP_BITS) != Z_OK) {
        coding_give(stream);
        return NULL;
    }
    gunzip->stream = stream;
    return stream;
}

int gunzip_body(struct gunzip *gunzip, struct span body, size_t limit, struct buf *out)
{
    z_stream *stream = stream_of(gunzip);
    buf_truncate(out, 0);
    if (stream == NULL)
        return -ENOMEM;
    CHECK(body.n > 0 && body.n <= UINT32_MAX && limit < UINT32_MAX);
    limit = MIN(limit, MAX(body.n * GUNZIP_RATIO, (size_t)GUNZIP_FREE));
    stream->next_in = zlib_readable(body.p);
    stream->avail_in = (unsigned)body.n;
    for (unsigned members = 0;;) {
        int r;
        const int failed = zlib_inflate_some(stream, Z_NO_FLUSH, limit, out, &r);
        if (failed < 0)
            return failed;
        if (r == Z_STREAM_END) {
            if (stream->avail_in == 0)
                return 0;
            if (++members == GUNZIP_MEMBERS || inflateReset(stream) != Z_OK)
                return -EBADMSG;
        } else if (r != Z_OK || (stream->avail_in == 0 && stream->avail_out > 0)) {
            return -EBADMSG; /* Z_BUF_ERROR, too: there is nothing left to read */
        }
    }
}
