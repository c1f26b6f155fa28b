#include "frontd/shard/session/ws_compress.h"

#include <errno.h>

#include "common/utf8.h"
#include "frontd/shard/session/duplex.h"

enum {
    KEPT = 1 << 16,         /* bytes of a buffer that are kept from message to message */
    PER_MESSAGE_SHIFT = 12, /* 4 KiB inflated take about as long as a small message */
};

void ws_compression_deinit(struct ws_compression *compression)
{
    deflater_deinit(&compression->deflater);
    buf_deinit(&compression->read);
    buf_deinit(&compression->written);
}

/* A buffer that one large message has made large is given back when the next one comes. */
static void shrink(struct buf *buf)
{
    if (buf->size > KEPT)
        buf_deinit(buf);
}

unsigned ws_take_compressed(
    struct client *client, struct span payload, bool binary, struct span *ret_payload)
{
    struct ctx *ctx = client->ctx;
    struct ws_compression *compression = ctx->ws_compression;
    struct buf *text = &compression->read;
    shrink(text);
    int r = ws_inflate(&compression->deflater, payload, ctx->conf->limits.body, text);
    ctx->taken += (unsigned)(buf_len(text) >> PER_MESSAGE_SHIFT);
    if (r == -ENOMEM)
        return WS_CODE_NONE;
    if (r == -EMSGSIZE)
        return WS_CODE_TOO_BIG;
    if (r < 0 || (!binary && !utf8_valid(buf_data(text), buf_len(text))))
        return WS_CODE_BAD_DATA;
    *ret_payload = (struct span){buf_data(text), buf_len(text)};
    return 0;
}

bool ws_compress(struct client *client, struct span payload, struct span *ret_payload)
{
    struct ws_compression *compression = client->ctx->ws_compression;
    struct buf *out = &compression->written;
    shrink(out);
    if (payload.n < WS_DEFLATE_FROM ||
        !ws_deflate(&compression->deflater, client->duplex->deflate, payload, out))
        return false;
    *ret_payload = (struct span){buf_data(out), buf_len(out)};
    return true;
}
