#include "frontd/codec/gunzip.h"

#include <errno.h>
#include <zlib.h>

#include "common/alloc.h"
#include "frontd/codec/zlib_memory.h"

enum {
    GZIP_BITS = 16 + 15, /* zlib: the format of gzip, with the largest window */
    STEP = 4096,         /* bytes by which an inflated body grows, at least */
};

void gunzip_deinit(struct gunzip *gunzip)
{
    if (gunzip->stream != NULL)
        inflateEnd(gunzip->stream);
    gunzip->stream = mem_free(gunzip->stream);
}

static z_stream *stream_of(struct gunzip *gunzip)
{
    if (gunzip->stream != NULL)
        return inflateReset(gunzip->stream) == Z_OK ? gunzip->stream : NULL;
    z_stream *stream = zlib_stream_new();
    if (stream == NULL || inflateInit2(stream, GZIP_BITS) != Z_OK) {
        mem_free(stream);
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
        const size_t have = buf_len(out);
        /* One byte more than there may be, so that it is seen where more would come. */
        const size_t want = MIN(MAX((size_t)STEP, have), limit + 1 - have);
        char *room = buf_room(out, want);
        if (room == NULL)
            return -ENOMEM;
        stream->next_out = (unsigned char *)room;
        stream->avail_out = (unsigned)want;
        const int r = inflate(stream, Z_NO_FLUSH);
        buf_added(out, want - stream->avail_out);
        if (buf_len(out) > limit)
            return -EMSGSIZE;
        if (r == Z_MEM_ERROR)
            return -ENOMEM;
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
