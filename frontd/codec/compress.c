#include "frontd/codec/compress.h"

#include <brotli/encode.h>
#include <errno.h>
#include <setjmp.h>
#include <stdalign.h>

#include "common/alloc.h"
#include "common/list.h"
#include "frontd/codec/zlib_memory.h"

enum {
    GZIP = 16, /* zlib: added to the bits of a window, the format of gzip */
    WHOLE_BITS = 15,
    WHOLE_MEMORY = 8,
    PART_BITS = 12, /* answers in parts may be many at the same time */
    PART_MEMORY = 5,
    PART_STEP = 4096, /* bytes by which the output grows, at least */
    BR_BITS = 16,     /* a larger window takes more memory, and at these levels gains nothing */
    ARENA = 1 << 20,  /* most bodies take less, and then no allocation */
    ALIGN = 16,
};

void compress_store_deinit(struct compress_store *store)
{
    if (store->gzip != NULL)
        deflateEnd(store->gzip);
    coding_give(store->gzip);
    coding_give(store->arena);
    *store = (struct compress_store){0};
}

static z_stream *gzip_new(unsigned level, int bits, int memory)
{
    z_stream *stream = zlib_stream_new();
    if (stream == NULL || deflateInit2(stream, (int)level, Z_DEFLATED, GZIP + bits, memory,
                              Z_DEFAULT_STRATEGY) != Z_OK)
        return coding_give(stream);
    return stream;
}

static z_stream *whole_gzip(struct compress_store *store, unsigned level)
{
    if (store->gzip == NULL)
        return store->gzip = gzip_new(level, WHOLE_BITS, WHOLE_MEMORY);
    if (deflateReset(store->gzip) != Z_OK ||
        deflateParams(store->gzip, (int)level, Z_DEFAULT_STRATEGY) != Z_OK)
        return NULL;
    return store->gzip;
}

static bool whole_with_gzip(
    struct compress_store *store, unsigned level, struct span body, char *room, size_t *ret_n)
{
    z_stream *stream = whole_gzip(store, level);
    if (stream == NULL)
        return false;
    stream->next_in = zlib_readable(body.p);
    stream->avail_in = (unsigned)body.n;
    stream->next_out = (unsigned char *)room;
    stream->avail_out = (unsigned)body.n - 1;
    *ret_n = body.n - 1;
    if (deflate(stream, Z_FINISH) != Z_STREAM_END)
        return false;
    *ret_n -= stream->avail_out;
    return true;
}

/* ---- brotli --------------------------------------------------------------------------------- */

/*
 * Memory of one run: of the arena while there is any, then blocks of its own. As Debian builds it
 * brotli ends the process when it is told that there is no memory, so it never is: the run is left.
 * It holds nothing else, and all its memory is known here.
 */
struct br_memory {
    struct compress_store *store;
    struct list blocks; /* struct br_block */
    jmp_buf left;
};

struct br_block {
    alignas(ALIGN) struct list node;
};

static void *take_memory(void *opaque, size_t size)
{
    struct br_memory *memory = opaque;
    struct compress_store *store = memory->store;
    size = (size + ALIGN - 1) / ALIGN * ALIGN;
    if (size <= ARENA - store->arena_used) {
        char *p = store->arena + store->arena_used;
        store->arena_used += size;
        return p;
    }
    struct br_block *block = coding_take(sizeof(*block) + size);
    if (block == NULL)
        longjmp(memory->left, 1);
    list_append(&memory->blocks, &block->node);
    return block + 1;
}

static void free_block(struct br_block *block)
{
    list_remove(&block->node);
    coding_give(block);
}

static void give_memory(void *opaque, void *p)
{
    const struct br_memory *memory = opaque;
    const uintptr_t arena = (uintptr_t)memory->store->arena, at = (uintptr_t)p;
    if (p != NULL && (at < arena || at >= arena + ARENA))
        free_block((struct br_block *)p - 1);
}

/* Returns the bytes that were written; 0: it is not done. */
static size_t run_br(struct br_memory *memory, unsigned level, struct span body, char *room)
{
    const uint8_t *next_in = (const uint8_t *)body.p;
    uint8_t *next_out = (uint8_t *)room;
    size_t in = body.n, left = body.n - 1;
    BrotliEncoderState *state = BrotliEncoderCreateInstance(take_memory, give_memory, memory);
    if (state == NULL)
        return 0;
    BrotliEncoderSetParameter(state, BROTLI_PARAM_QUALITY, level);
    BrotliEncoderSetParameter(state, BROTLI_PARAM_LGWIN, BR_BITS);
    BrotliEncoderSetParameter(state, BROTLI_PARAM_SIZE_HINT, (uint32_t)body.n);
    const bool done = BrotliEncoderCompressStream(
                          state, BROTLI_OPERATION_FINISH, &in, &next_in, &left, &next_out, NULL) &&
                      BrotliEncoderIsFinished(state);
    BrotliEncoderDestroyInstance(state);
    return done ? body.n - 1 - left : 0;
}

static size_t try_br(struct br_memory *memory, unsigned level, struct span body, char *room)
{
    return setjmp(memory->left) == 0 ? run_br(memory, level, body, room) : 0;
}

static bool whole_with_br(
    struct compress_store *store, unsigned level, struct span body, char *room, size_t *ret_n)
{
    struct br_memory memory = {.store = store};
    if (store->arena == NULL)
        store->arena = coding_take(ARENA);
    if (store->arena == NULL)
        return false;
    store->arena_used = 0;
    list_init(&memory.blocks);
    *ret_n = try_br(&memory, level, body, room);
    list_for_each_safe (node, &memory.blocks)
        free_block(container_of(node, struct br_block, node));
    return *ret_n > 0;
}

/* ---- Bodies --------------------------------------------------------------------------------- */

bool compress_whole(struct compress_store *store, enum content_coding coding, unsigned level,
    struct span body, struct buf *out)
{
    size_t n;
    CHECK(coding == CODING_GZIP || coding == CODING_BR);
    CHECK(body.n <= UINT32_MAX);
    buf_truncate(out, 0);
    char *room = body.n < 2 ? NULL : buf_room(out, body.n - 1);
    if (room == NULL || !(coding == CODING_GZIP ? whole_with_gzip(store, level, body, room, &n)
                                                : whole_with_br(store, level, body, room, &n)))
        return false;
    buf_added(out, n);
    return true;
}

int compressor_open(struct compressor *compressor, unsigned level)
{
    compressor->stream = gzip_new(level, PART_BITS, PART_MEMORY);
    return compressor->stream == NULL ? -ENOMEM : 0;
}

void compressor_close(struct compressor *compressor)
{
    if (compressor->stream != NULL)
        deflateEnd(compressor->stream);
    compressor->stream = coding_give(compressor->stream);
}

int compressor_feed(
    struct compressor *compressor, struct span bytes, enum compress_until until, struct buf *out)
{
    static const int flushes[] = {
        [COMPRESS_GATHER] = Z_NO_FLUSH,
        [COMPRESS_FLUSH] = Z_SYNC_FLUSH,
        [COMPRESS_FINISH] = Z_FINISH,
    };
    z_stream *stream = compressor->stream;
    CHECK(bytes.n <= UINT32_MAX);
    stream->next_in = zlib_readable(bytes.p);
    stream->avail_in = (unsigned)bytes.n;
    do {
        char *room = buf_room(out, PART_STEP);
        if (room == NULL)
            return -ENOMEM;
        stream->next_out = (unsigned char *)room;
        stream->avail_out = PART_STEP;
        /* Z_BUF_ERROR: there was nothing to do any more. */
        const int r = deflate(stream, flushes[until]);
        CHECK(r == Z_OK || r == Z_BUF_ERROR || r == Z_STREAM_END);
        buf_added(out, PART_STEP - stream->avail_out);
    } while (stream->avail_out == 0);
    return 0;
}
