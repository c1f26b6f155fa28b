/*
 * The decoders of header blocks. A shard keeps those that were used in the last HTTP2_DECODER_MS,
 * and HTTP2_DECODERS at most; of other connections the table is frozen to what it holds (some 200
 * bytes of a browser's), and thawed when their next block comes, which takes 2 µs.
 */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/session/http2_session.h"

struct http2_decoder {
    struct list node; /* in http2_shared.decoders */
    struct client *client;
    struct h2_hpack *hpack;
    uint64_t used_at; /* ms */
};

static void free_decoder(struct http2_shared *shared, struct http2_decoder *decoder)
{
    list_remove(&decoder->node);
    shared->ndecoders--;
    decoder->client->http2->decoder = NULL;
    h2_hpack_free(decoder->hpack);
    mem_free(decoder);
}

uint64_t http2_decoder_due(const struct http2 *http2)
{
    return http2->decoder == NULL ? UINT64_MAX : http2->decoder->used_at + HTTP2_DECODER_MS;
}

/* Without memory the table is lost, and no block can be read any more: the connection ends. */
void http2_decoder_freeze(struct client *client)
{
    struct http2 *http2 = client->http2;
    struct buf frozen = {0};
    int r = h2_hpack_freeze(http2->decoder->hpack, &frozen);
    free_decoder(client->ctx->http2, http2->decoder);
    size_t n = buf_len(&frozen);
    if (r == 0 && n > 0) {
        http2->frozen = mem_strndup(buf_data(&frozen), n);
        r = http2->frozen == NULL ? -ENOMEM : 0;
    }
    http2->frozen_n = r == 0 ? (uint32_t)n : 0;
    buf_deinit(&frozen);
    if (r < 0)
        client_doom(client);
}

static struct http2_decoder *thaw(struct client *client)
{
    struct http2_shared *shared = client->ctx->http2;
    struct http2 *http2 = client->http2;
    struct http2_decoder *decoder = mem_zalloc(sizeof(*decoder));
    struct span frozen = {http2->frozen, http2->frozen_n};
    if (decoder == NULL || h2_hpack_thaw(frozen, &decoder->hpack) != H2_OK) {
        mem_free(decoder);
        return NULL;
    }
    http2->frozen = mem_free(http2->frozen);
    http2->frozen_n = 0;
    decoder->client = client;
    decoder->used_at = ctx_now(client->ctx);
    http2->decoder = decoder;
    list_append(&shared->decoders, &decoder->node);
    shared->ndecoders++;
    return decoder;
}

struct h2_hpack *http2_decoder_of(struct client *client)
{
    struct http2_shared *shared = client->ctx->http2;
    struct http2_decoder *decoder = client->http2->decoder;
    if (decoder != NULL) {
        list_remove(&decoder->node);
        list_append(&shared->decoders, &decoder->node);
        decoder->used_at = ctx_now(client->ctx);
        return decoder->hpack;
    }
    if (shared->ndecoders == HTTP2_DECODERS)
        http2_decoder_freeze(list_first(&shared->decoders, struct http2_decoder, node)->client);
    decoder = thaw(client);
    return decoder == NULL ? NULL : decoder->hpack;
}

int http2_decoder_save(const struct http2 *http2, struct buf *out)
{
    if (http2->decoder != NULL)
        return h2_hpack_freeze(http2->decoder->hpack, out);
    return http2->frozen_n == 0 ? 0 : buf_append(out, http2->frozen, http2->frozen_n);
}

void http2_decoder_free(struct client *client)
{
    struct http2 *http2 = client->http2;
    if (http2->decoder != NULL)
        free_decoder(client->ctx->http2, http2->decoder);
    http2->frozen = mem_free(http2->frozen);
    http2->frozen_n = 0;
}
