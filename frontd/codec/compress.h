#pragma once

/*
 * Compressing bodies of answers with gzip (RFC 1952) and brotli (RFC 7932): whole ones with state
 * that a process has once, and those that go out in parts with a small state each. No socket and no
 * clock; the libraries' memory comes from common/alloc.h.
 */

#include "common/buf.h"
#include "frontd/codec/content_coding.h"

enum {
    COMPRESS_GZIP_MAX = 9,
    COMPRESS_BR_MAX = 5, /* from here on brotli takes several MB, and far more time */
    /* About the bytes that a struct compressor has: windows of 4 KiB, and zlib's own. */
    COMPRESS_STREAM_SIZE = 40 << 10,
};

/* What whole bodies are compressed with, one after the other. Zeroed at first; memory is taken when
 * it is used for the first time: 270 KB for gzip, 1 MiB for brotli. */
struct compress_store {
    struct z_stream_s *gzip;
    char *arena; /* of brotli, whose state cannot be used twice */
    size_t arena_used;
};

void compress_store_deinit(struct compress_store *store);

/*
 * Compresses a body. level: 1 to COMPRESS_GZIP_MAX, or 0 to COMPRESS_BR_MAX. out: emptied, then
 * filled. Returns whether it is done; not where the result would not be smaller, or there is no
 * memory: the body goes as it is.
 */
bool compress_whole(struct compress_store *store, enum content_coding coding, unsigned level,
    struct span body, struct buf *out);

/* Compresses one body, with gzip, part by part. Zeroed, it is closed. */
struct compressor {
    struct z_stream_s *stream;
};

enum compress_until {
    COMPRESS_GATHER, /* what fills a block comes out */
    COMPRESS_FLUSH,  /* all that was fed comes out */
    COMPRESS_FINISH, /* and the end of the body */
};

/* level: as of gzip. Returns 0 or -ENOMEM. */
int compressor_open(struct compressor *compressor, unsigned level);

/* Accepts one that is closed. */
void compressor_close(struct compressor *compressor);

/* Feeds it, and appends what comes out. Returns 0 or -ENOMEM: it can only be closed then. */
int compressor_feed(
    struct compressor *compressor, struct span bytes, enum compress_until until, struct buf *out);
