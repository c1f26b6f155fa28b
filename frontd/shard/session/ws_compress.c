#include "frontd/shard/session/ws_compress.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/utf8.h"
#include "frontd/shard/session/duplex.h"

enum {
    KEPT = 1 << 16, /* bytes of a buffer that are kept from message to message */
    /* About as long as a small message take 4 KiB inflated; or 512 bytes of blocks that have
     * nothing but the tables of their codes, from which nothing need come */
    PER_MESSAGE_SHIFT = 12,
    PER_MESSAGE_CAME_SHIFT = 9,
    /* Compressing a message takes about as long as a write, for zlib's tables, and 64 bytes of it
     * as long as a unit of work: see WORK_WRITE */
    WORK_BYTES_SHIFT = 6,
};

void ws_compression_deinit(struct ws_compression *compression)
{
    deflater_deinit(&compression->deflater);
    buf_deinit(&compression->read);
    buf_deinit(&compression->written);
}

static void trim(struct buf *buf)
{
    if (buf->size > KEPT)
        buf_deinit(buf);
}

void ws_compression_trim(struct ws_compression *compression)
{
    trim(&compression->read);
    trim(&compression->written);
}

unsigned ws_take_compressed(
    struct client *client, struct span payload, bool binary, struct span *ret_payload)
{
    struct ctx *ctx = client->ctx;
    struct ws_compression *compression = ctx->ws_compression;
    struct buf *text = &compression->read;
    const size_t limit = ctx->conf->limits.body;
    const size_t left = MAX(memory_growth(&ctx->memory, mem_held()), (size_t)KEPT);
    int r = ws_inflate(&compression->deflater, payload, MIN(limit, left), text);
    ctx->taken += (unsigned)(buf_len(text) >> PER_MESSAGE_SHIFT) +
                  (unsigned)(payload.n >> PER_MESSAGE_CAME_SHIFT);
    if (r == -ENOMEM)
        return WS_CODE_NONE;
    if (r == -EMSGSIZE)
        return left < limit && buf_len(text) > left ? WS_CODE_TRY_LATER : WS_CODE_TOO_BIG;
    if (r < 0 || (!binary && !utf8_valid(buf_data(text), buf_len(text))))
        return WS_CODE_BAD_DATA;
    *ret_payload = (struct span){buf_data(text), buf_len(text)};
    return 0;
}

bool ws_compress(struct client *client, struct span payload, struct span *ret_payload)
{
    struct ws_compression *compression = client->ctx->ws_compression;
    struct buf *out = &compression->written;
    if (payload.n < WS_DEFLATE_FROM)
        return false;
    client->ctx->work += WORK_WRITE + (payload.n >> WORK_BYTES_SHIFT);
    if (!ws_deflate(&compression->deflater, client->duplex->deflate, payload, out)) {
        trim(out);
        return false;
    }
    *ret_payload = (struct span){buf_data(out), buf_len(out)};
    return true;
}
