/*
 * The decoders of header blocks. A shard keeps those of the HTTP2_DECODERS connections that were
 * used last; of others the table is frozen to what it holds (about 400 bytes of a browser's), and
 * thawed when their next block comes.
 */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/session/http2_session.h"

struct http2_decoder {
    struct list node; /* in http2_shared.decoders */
    struct client *client;
    struct h2_hpack *hpack;
};

static void free_decoder(struct http2_shared *shared, struct http2_decoder *decoder)
{
    list_remove(&decoder->node);
    shared->ndecoders--;
    decoder->client->http2->decoder = NULL;
    h2_hpack_free(decoder->hpack);
    mem_free(decoder);
}

/* Without memory the table is lost, and no block can be read any more: the connection ends. */
static void freeze(struct http2_shared *shared, struct http2_decoder *decoder)
{
    struct client *client = decoder->client;
    struct http2 *http2 = client->http2;
    struct buf frozen = {0};
    int r = h2_hpack_freeze(decoder->hpack, &frozen);
    free_decoder(shared, decoder);
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
        return decoder->hpack;
    }
    if (shared->ndecoders == HTTP2_DECODERS)
        freeze(shared, list_first(&shared->decoders, struct http2_decoder, node));
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
