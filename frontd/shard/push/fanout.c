#include "frontd/shard/push/fanout.h"

#include "common/alloc.h"
#include "common/log.h"

void shared_deinit(struct shared *shared)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        message_unref(shared->encoded[i]);
        shared->encoded[i] = NULL;
    }
    for (size_t i = 0; i < WS_DEFLATE_WINDOWS; i++) {
        message_unref(shared->deflated[i]);
        shared->deflated[i] = NULL;
    }
}

static struct fanout *begin(struct ctx *ctx, uint64_t realm, struct span topic)
{
    struct fanout *fanout = mem_zalloc(sizeof(*fanout));
    if (fanout == NULL)
        return NULL;
    fanout->ctx = ctx;
    topics_walk(ctx->topics, &fanout->walk, realm, topic);
    list_append(&ctx->fanouts, &fanout->node);
    stream_wait(ctx->reading, &fanout->stream);
    return fanout;
}

static void end(struct fanout *fanout)
{
    for (unsigned i = 0; i < fanout->count; i++) {
        shared_deinit(&fanout->messages[i]);
        message_unref(fanout->copies[i]);
    }
    topics_stop(&fanout->walk);
    list_remove(&fanout->node);
    if (fanout->stream != NULL)
        stream_release(fanout->stream);
    mem_free(fanout);
}

/* Returns whether there may be another one. */
static bool deliver_to_next(struct fanout *fanout)
{
    struct client *client = topics_next(&fanout->walk);
    if (client == NULL)
        return false;
    for (unsigned i = 0; i < fanout->count && client_is_duplex(client); i++)
        client_session(client)->deliver(client, &fanout->messages[i]);
    return true;
}

static void bring_to_end(struct fanout *fanout)
{
    while (deliver_to_next(fanout))
        ;
    end(fanout);
}

bool fanout_add(
    struct ctx *ctx, uint64_t realm, struct span topic, struct span payload, bool binary)
{
    struct stream *stream = ctx->reading;
    if (stream == NULL)
        return false;
    struct fanout *fanout = stream->holder == NULL
                                ? NULL
                                : container_of(stream->holder, struct fanout, stream);
    struct message *copy = message_new(payload.n, true);
    if (copy != NULL && fanout == NULL)
        fanout = begin(ctx, realm, topic);
    else if (copy == NULL && fanout != NULL)
        bring_to_end(fanout); /* this message is delivered at once: not before those ahead of it */
    if (copy == NULL || fanout == NULL) {
        message_unref(copy);
        return false;
    }
    if (payload.n > 0)
        memcpy(copy->bytes, payload.p, payload.n);
    CHECK(fanout->count < FANOUT_MESSAGES);
    fanout->copies[fanout->count] = copy;
    fanout->messages[fanout->count++] = (struct shared){
        .payload = {copy->bytes, payload.n},
        .binary = binary,
    };
    fanout->bytes += payload.n;
    stream->full = fanout->count == FANOUT_MESSAGES || fanout->bytes >= FANOUT_BYTES;
    return true;
}

void fanout_go_on(struct fanout *fanout, uint64_t work)
{
    struct ctx *ctx = fanout->ctx;
    uint64_t until = ctx->work + work;
    while (ctx->work < until) {
        if (!deliver_to_next(fanout)) {
            end(fanout);
            return;
        }
    }
    list_remove(&fanout->node);
    list_append(&ctx->fanouts, &fanout->node);
}

void fanout_finish(struct ctx *ctx)
{
    while (!list_empty(&ctx->fanouts))
        bring_to_end(list_first(&ctx->fanouts, struct fanout, node));
}
