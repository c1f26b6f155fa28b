#include "frontd/shard/request/compress_answer.h"

#include "common/alloc.h"
#include "frontd/codec/coded_answer.h"

enum {
    KEPT = 1 << 16,  /* bytes of a buffer that are kept from answer to answer */
    WORK_FACTOR = 8, /* compressing a byte takes about as long as copying so many */
};

void compression_deinit(struct compression *compression)
{
    compress_store_deinit(&compression->store);
    buf_deinit(&compression->body);
    buf_deinit(&compression->fields);
}

/* A buffer is empty for the next use; one that a large answer has made large is given back. */
static struct buf *emptied(struct buf *buf)
{
    if (buf->size > KEPT)
        buf_deinit(buf);
    buf_truncate(buf, 0);
    return buf;
}

static struct span span_of_buf(const struct buf *buf)
{
    return (struct span){buf_data(buf), buf_len(buf)};
}

/*
 * Whether a browser may have sent the request for a page of another site, in the name of a user:
 * with what it knows of him, which that page does not (security.md).
 */
static bool has_credentials(const struct client *client, const struct http_head *head)
{
    const struct conf_tls *tls = client_listener(client)->tls;
    return http_head_find(head, SPAN("cookie")) != NULL ||
           http_head_find(head, SPAN("authorization")) != NULL ||
           (tls != NULL && tls->client_auth != CONF_CLIENT_AUTH_NONE);
}

void compress_note(struct answer_coding *of, const struct client *client,
    const struct conf_compress *conf, const struct http_head *head)
{
    static const uint8_t gzip[] = {CODING_GZIP};
    of->is_head = head->method == HTTP_HEAD;
    if (!conf->credentials && has_credentials(client, head))
        return;
    of->coding = (uint8_t)coding_accepted(head, conf->codings, conf->ncodings);
    of->takes_gzip = conf->gzip && coding_accepted(head, gzip, 1) == CODING_GZIP;
}

static bool is_wanted_type(const struct conf_compress *conf, struct span type)
{
    for (uint32_t i = 0; i < conf->ntypes; i++) {
        if (coded_answer_fits(type, (struct span){conf->types[i], strlen(conf->types[i])}))
            return true;
    }
    return false;
}

/* Whether an answer would be compressed for a client that takes it so, whatever its size is. */
static bool is_wanted(const struct conf_compress *conf, const struct reply *reply)
{
    if (reply->status == 204 || reply->status == 205 || reply->status == 206)
        return false;
    const struct coded_answer look = coded_answer_look(reply->fields);
    struct span type = look.type;
    if (reply->content_type != NULL)
        type = (struct span){reply->content_type, strlen(reply->content_type)};
    return !look.fixed && is_wanted_type(conf, type);
}

/* The fields of an answer become those with a coding. Without memory it is left as it is. */
static bool put_fields(struct ctx *ctx, enum content_coding coding, struct reply *reply)
{
    struct buf *fields = emptied(&ctx->compression->fields);
    if (coded_answer_write(reply->fields, coding, reply->status != 304, fields) < 0)
        return false;
    reply->fields = span_of_buf(fields);
    return true;
}

/* Not Modified speaks of what GET would give, compressed or not: its ETag is a weak one then. */
static void code_not_modified(struct ctx *ctx, enum content_coding coding, struct reply *reply)
{
    if (put_fields(ctx, coding, reply) && coding != CODING_IDENTITY)
        reply->has_length = false;
}

/* A head whose body the worker has not sent: it is as that of GET, but for the length, which is not
 * known. */
static void code_head(struct ctx *ctx, enum content_coding coding, struct reply *reply)
{
    if (!put_fields(ctx, coding, reply) || coding == CODING_IDENTITY)
        return;
    reply->has_length = false;
    reply->no_length = true;
}

static bool compress_body(struct ctx *ctx, const struct conf_compress *conf,
    enum content_coding coding, const struct reply *reply, struct span *ret_body)
{
    struct buf *body = emptied(&ctx->compression->body);
    const unsigned level = coding == CODING_BR ? conf->br_level : conf->gzip_level;
    if (UNLIKELY(ctx_memory(ctx) >= MEMORY_SHORT))
        return false;
    ctx->work += (reply->body.n >> WORK_SHIFT) * WORK_FACTOR;
    if (!compress_whole(&ctx->compression->store, coding, level, reply->body, body))
        return false;
    *ret_body = span_of_buf(body);
    return true;
}

void compress_whole_answer(const struct answer_coding *of, struct ctx *ctx,
    const struct conf_compress *conf, const struct reply *reply, struct reply *ret_reply)
{
    const bool head_alone = of->is_head && reply->body.n == 0 && reply->has_length;
    const uint64_t size = head_alone ? reply->length : reply->body.n;
    enum content_coding coding = of->coding;
    struct span body;
    *ret_reply = *reply;
    if (reply->status == 304) {
        code_not_modified(ctx, coding, ret_reply);
        return;
    }
    if (size < conf->from || size > conf->up_to || !is_wanted(conf, reply))
        return;
    if (head_alone) {
        code_head(ctx, coding, ret_reply);
        return;
    }
    if (coding != CODING_IDENTITY && !compress_body(ctx, conf, coding, reply, &body))
        coding = CODING_IDENTITY;
    if (!put_fields(ctx, coding, ret_reply) || coding == CODING_IDENTITY)
        return;
    ret_reply->body = body;
    ret_reply->has_length = false;
}

/* NULL: there can be none. */
static struct coder *open_coder(
    struct ctx *ctx, const struct conf_compress *conf, const struct reply *reply)
{
    if (ctx->compression->coders >= COMPRESS_STREAMS_MAX ||
        UNLIKELY(ctx_memory(ctx) >= MEMORY_SHORT))
        return NULL;
    struct coder *coder = mem_zalloc(sizeof(*coder));
    if (coder == NULL || compressor_open(&coder->compressor, conf->gzip_level) < 0) {
        return mem_free(coder);
    }
    coder->has_length = reply->has_length;
    coder->left = reply->length;
    ctx->compression->coders++;
    return coder;
}

void compress_begin(struct answer_coding *of, struct ctx *ctx, const struct conf_compress *conf,
    const struct reply *reply, struct reply *ret_reply)
{
    *ret_reply = *reply;
    if (reply->status == 304) {
        code_not_modified(ctx, of->coding, ret_reply);
        return;
    }
    const bool too_long = reply->has_length && reply->body.n > reply->length; /* it ends so */
    if (too_long || (reply->has_length && reply->length < conf->from) || !is_wanted(conf, reply))
        return;
    enum content_coding coding = of->takes_gzip ? CODING_GZIP : CODING_IDENTITY;
    if (of->is_head) {
        code_head(ctx, coding, ret_reply);
        return;
    }
    if (coding != CODING_IDENTITY)
        of->coder = open_coder(ctx, conf, reply);
    if (of->coder == NULL)
        coding = CODING_IDENTITY;
    if (!put_fields(ctx, coding, ret_reply)) {
        compress_end(of, ctx);
        *ret_reply = *reply;
    } else if (coding != CODING_IDENTITY) {
        ret_reply->has_length = false;
    }
}

enum rpc_error compress_part(struct answer_coding *of, struct ctx *ctx, struct span bytes,
    enum compress_until until, struct span *ret_bytes)
{
    struct coder *coder = of->coder;
    struct buf *out = emptied(&ctx->compression->body);
    if (coder->has_length && bytes.n > coder->left)
        return RPC_BAD_RESPONSE;
    coder->left -= coder->has_length ? bytes.n : 0;
    if (until == COMPRESS_FINISH && coder->has_length && coder->left > 0)
        return RPC_BAD_RESPONSE;
    ctx->work += (bytes.n >> WORK_SHIFT) * WORK_FACTOR;
    if (coder->failed || compressor_feed(&coder->compressor, bytes, until, out) < 0) {
        coder->failed = true;
        return RPC_OVERLOADED;
    }
    coder->gathers = until == COMPRESS_GATHER;
    *ret_bytes = span_of_buf(out);
    return 0;
}

void compress_end(struct answer_coding *of, struct ctx *ctx)
{
    if (of->coder == NULL)
        return;
    ctx->compression->coders--;
    compressor_close(&of->coder->compressor);
    of->coder = mem_free(of->coder);
}
