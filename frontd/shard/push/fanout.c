#include "frontd/shard/push/fanout.h"

#include "common/alloc.h"
#include "common/log.h"

enum { FRAME_LENGTH = 4 /* bytes before the payload of a message for STAY_FRAME */ };

/* What workers can make happen with every message. */
static struct log_limit not_utf8;

void shared_deliver(struct shared *shared, struct client *client)
{
    struct ctx *ctx = client->ctx;
    enum stay_kind kind = client->stay->kind;
    struct message **message = &shared->encoded[kind];
    if (shared->refused && kind == STAY_WEBSOCKET)
        return;
    if (*message == NULL && kind == STAY_WEBSOCKET && !shared->binary &&
        !ws_text_valid(shared->payload)) {
        shared->refused = true;
        log_limited(&not_utf8, ctx_now(ctx), LOG_WARNING,
            "a worker pushes text that is not UTF-8: it is not sent to WebSockets");
        return;
    }
    if (*message == NULL)
        *message = stay_encode(kind, shared->payload, shared->binary, true);
    if (*message == NULL)
        return;
    bool written = !client->touched && !client_blocked(client);
    ctx->work += (written ? WORK_WRITE : 1) + ((*message)->len >> WORK_SHIFT);
    stay_push(client, *message);
}

void shared_deinit(struct shared *shared)
{
    for (size_t i = 0; i < STAY_KINDS; i++) {
        message_unref(shared->encoded[i]);
        shared->encoded[i] = NULL;
    }
}

static struct fanout *begin(struct ctx *ctx, uint64_t realm, struct span topic)
{
    struct fanout *fanout = mem_zalloc(sizeof(*fanout));
    if (fanout == NULL)
        return NULL;
    fanout->ctx = ctx;
    topics_walk(&fanout->walk, realm, topic);
    list_append(&ctx->fanouts, &fanout->node);
    stream_wait(ctx->reading, &fanout->stream);
    return fanout;
}

static void end(struct fanout *fanout)
{
    for (unsigned i = 0; i < fanout->count; i++)
        shared_deinit(&fanout->messages[i]);
    topics_stop(&fanout->walk);
    list_remove(&fanout->node);
    if (fanout->stream != NULL)
        stream_release(fanout->stream);
    mem_free(fanout);
}

bool fanout_add(
    struct ctx *ctx, uint64_t realm, struct span topic, struct span payload, bool binary)
{
    struct stream *stream = ctx->reading;
    if (stream == NULL)
        return false;
    /* What is encoded for STAY_FRAME has the payload as it is. */
    struct message *copy = stay_encode(STAY_FRAME, payload, binary, true);
    if (copy == NULL)
        return false;
    struct fanout *fanout = stream->holder == NULL
                                ? begin(ctx, realm, topic)
                                : container_of(stream->holder, struct fanout, stream);
    if (fanout == NULL) {
        message_unref(copy);
        return false;
    }
    CHECK(fanout->count < FANOUT_MESSAGES);
    fanout->messages[fanout->count++] = (struct shared){
        .payload = {copy->bytes + FRAME_LENGTH, payload.n},
        .binary = binary,
        .encoded[STAY_FRAME] = copy,
    };
    fanout->bytes += payload.n;
    stream->full = fanout->count == FANOUT_MESSAGES || fanout->bytes >= FANOUT_BYTES;
    return true;
}

/* Returns whether there may be another one. */
static bool deliver_to_next(struct fanout *fanout)
{
    struct client *client = topics_next(&fanout->walk);
    if (client == NULL)
        return false;
    for (unsigned i = 0; i < fanout->count && client->stay != NULL; i++)
        shared_deliver(&fanout->messages[i], client);
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
    while (!list_empty(&ctx->fanouts)) {
        struct fanout *fanout = list_first(&ctx->fanouts, struct fanout, node);
        while (deliver_to_next(fanout))
            ;
        end(fanout);
    }
}
