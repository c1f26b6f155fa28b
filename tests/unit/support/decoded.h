#pragma once

/* Bodies with a content coding, as clients read them. */

#include <brotli/decode.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "frontd/codec/content_coding.h"

/* What is whole in `in`, at `out`; its bytes, or -1: it is wrong, cut, or more than `size`. */
static inline long decoded(enum content_coding coding, struct span in, char *out, size_t size)
{
    if (coding == CODING_BR) {
        size_t n = size;
        return BrotliDecoderDecompress(in.n, (const uint8_t *)in.p, &n, (uint8_t *)out) ==
                       BROTLI_DECODER_RESULT_SUCCESS
                   ? (long)n
                   : -1;
    }
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)in.p,
        .avail_in = (unsigned)in.n,
        .next_out = (unsigned char *)out,
        .avail_out = (unsigned)size};
    if (inflateInit2(&stream, 31) != Z_OK)
        return -1;
    const int r = inflate(&stream, Z_FINISH);
    const long n = (long)(size - stream.avail_out);
    const bool rest = stream.avail_in > 0;
    inflateEnd(&stream);
    return r == Z_STREAM_END && !rest ? n : -1;
}

/* What can be read of gzip's so far; its bytes. */
static inline size_t decoded_so_far(struct span in, char *out, size_t size)
{
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)in.p,
        .avail_in = (unsigned)in.n,
        .next_out = (unsigned char *)out,
        .avail_out = (unsigned)size};
    if (inflateInit2(&stream, 31) != Z_OK)
        return 0;
    inflate(&stream, Z_SYNC_FLUSH);
    inflateEnd(&stream);
    return size - stream.avail_out;
}
