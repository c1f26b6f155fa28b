#include "frontd/shard/push/push.h"

#include <string.h>

#include "common/log.h"
#include "frontd/shard/client/affinity.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/push/topics.h"
#include "frontd/shard/upstream/worker.h"
#include "proto/close_code.h"
#include "proto/jsonrpc.h"

/* A worker can make this happen with every frame. */
static struct log_limit not_subscribed;
static struct log_limit not_kept;

/* A topic's name: a member of meta, its escapes resolved into `name`. */
struct topic_name {
    bool there;
    size_t n;
    char name[TOPIC_NAME_MAX];
};

/* Returns NULL, or what is wrong with meta or the name in it; static text. */
static const char *read_topic(const struct frame *frame, struct topic_name *ret_topic)
{
    static const char *const bad_length = "a topic has 1 to 255 bytes";
    ret_topic->there = false;
    if (frame->meta.n == 0)
        return NULL;
    if (jsonrpc_validate(frame->meta.p, frame->meta.n) != 0)
        return "its meta is no JSON";
    struct span value = jsonrpc_member(frame->meta, SPAN("topic"));
    if (value.n == 0)
        return NULL;
    if (value.p[0] != '"')
        return "its topic is no string";
    struct span inside = {value.p + 1, value.n - 2};
    char plain[TOPIC_NAME_MAX * 6]; /* each byte may have been written as an escape of 6 */
    if (inside.n > sizeof(plain))
        return bad_length;
    size_t n = jsonrpc_unescape(inside, plain);
    if (n == 0 || n > TOPIC_NAME_MAX)
        return bad_length;
    /* A lone surrogate is no character; unescaped it would be the same as any other one. */
    static const struct span replacement = {"\xef\xbf\xbd", 3};
    if (memmem(plain, n, replacement.p, replacement.n) != NULL &&
        memmem(inside.p, inside.n, replacement.p, replacement.n) == NULL)
        return "its topic is no text";
    memcpy(ret_topic->name, plain, n);
    ret_topic->n = n;
    ret_topic->there = true;
    return NULL;
}

/* What a frame carries: the blob, or the body where there is none. */
static struct span payload_of(const struct frame *frame)
{
    return frame->blob.n > 0 ? frame->blob : frame->body;
}

/* Returns NULL, or what is wrong with a frame; static text. */
static const char *check(const struct frame *frame, size_t state_max, struct topic_name *ret_topic)
{
    uint8_t type = frame->head.type;
    const char *wrong = NULL;
    ret_topic->there = false;
    if (type == FRAME_PUBLISH || type == FRAME_SUBSCRIBE || type == FRAME_UNSUBSCRIBE)
        wrong = read_topic(frame, ret_topic);
    if (wrong == NULL && (type == FRAME_PUBLISH || type == FRAME_SUBSCRIBE) && !ret_topic->there)
        wrong = "it names no topic";
    if (wrong == NULL && type != FRAME_PUBLISH && frame->head.conn == 0)
        wrong = "it names no connection";
    if (wrong == NULL && type == FRAME_STATE && payload_of(frame).n > state_max)
        wrong = "it is over limits.state";
    return wrong;
}

static void refuse(
    struct ctx *ctx, const struct push_from *from, const struct frame *frame, const char *what)
{
    static struct log_limit limit;
    if (from->worker != NULL)
        fault_frame(&from->worker->faults, &frame->head, what);
    else
        log_limited(&limit, ctx_now(ctx), LOG_WARNING, "%s from another shard is dropped: %s",
            frame_type_text(frame->head.type), what);
}

static struct shared shared_of(const struct frame *frame)
{
    return (struct shared){
        .payload = payload_of(frame), .binary = frame->head.flags & FRAME_F_BINARY};
}

static void deliver(struct shared *shared, struct client *client)
{
    client_session(client)->deliver(client, shared);
}

/* Whether the journal is for the client. Not where it has been given it, and only waits until it
 * may be written to. */
static bool wants_replay(const struct client *client)
{
    return client->arriving && !client->caught_up;
}

/* Whether the shard that the client comes from may still keep it, and has to hear what is for it.
 */
static bool may_go_back(const struct client *client)
{
    return client->arriving && client->caught_up;
}

static void publish(struct ctx *ctx, const struct push_from *from, const struct frame *frame,
    const struct topic_name *topic)
{
    uint64_t realm = from->realm;
    struct span name = {topic->name, topic->n};
    struct shared shared = shared_of(frame);
    if (!from->replay && topics_members(ctx->topics, realm, name).count > FANOUT_AT_ONCE &&
        fanout_add(ctx, realm, name, shared.payload, shared.binary))
        return;
    struct topic_members members = topics_members(ctx->topics, realm, name);
    /* From the last one on: a member that is turned away leaves, and the last takes its place. */
    for (uint32_t i = members.count; i > 0; i--) {
        if (!from->replay || wants_replay(members.clients[i - 1]))
            deliver(&shared, members.clients[i - 1]);
    }
    shared_deinit(&shared);
}

static void push(struct client *client, const struct frame *frame)
{
    struct shared shared = shared_of(frame);
    deliver(&shared, client);
    shared_deinit(&shared);
}

static void subscribe(struct client *client, const struct topic_name *topic)
{
    uint32_t limit = client->ctx->conf->limits.subscriptions;
    const struct session_ops *session = client_session(client);
    int r = topics_join(client->ctx->topics, client, session->subscriptions(client),
        session->route(client)->realm, (struct span){topic->name, topic->n}, limit);
    if (r == 0)
        client_set_used(client);
    else
        log_limited(&not_subscribed, ctx_now(client->ctx), LOG_WARNING,
            "connection %llu cannot subscribe: %s", (unsigned long long)client->conn.id,
            r == TOPICS_E_LIMIT ? "it has limits.subscriptions already" : "no memory");
}

/* Of a pool whose connections are bound, another worker than its own does not become its own. */
static void keep(struct client *client, const struct push_from *from, struct span state)
{
    const struct ctx *ctx = client->ctx;
    if (affinity_keep(client, state) < 0) {
        log_limited(&not_kept, ctx_now(ctx), LOG_WARNING,
            "no memory: connection %llu keeps the state that it had",
            (unsigned long long)client->conn.id);
        return;
    }
    client_set_used(client);
    struct affinity *affinity = *client_session(client)->affinity(client);
    if (affinity == NULL ||
        (affinity->pool != AFFINITY_NO_POOL &&
            ctx->conf->pools[affinity->pool].on_worker_lost != CONF_LOST_UNNOTED))
        return;
    affinity->home = from->worker == NULL ? 0 : from->worker->home;
    affinity->pool = from->worker == NULL ? AFFINITY_NO_POOL
                                          : (uint32_t)(from->worker->pool - ctx->pools);
}

static void disconnect(struct client *client, const struct frame *frame)
{
    unsigned code = WS_CODE_NORMAL;
    struct buf plain = {0};
    struct span reason = {0};
    if (frame->meta.n > 0 && jsonrpc_validate(frame->meta.p, frame->meta.n) == 0) {
        struct span number = jsonrpc_member(frame->meta, SPAN("code"));
        struct span text = jsonrpc_member(frame->meta, SPAN("reason"));
        if (number.n == 4 && close_code_valid((unsigned)strtoul(number.p, NULL, 10)))
            code = (unsigned)strtoul(number.p, NULL, 10);
        char *room = text.n > 2 && text.p[0] == '"' ? buf_room(&plain, text.n) : NULL;
        if (room != NULL)
            reason = (struct span){
                room, jsonrpc_unescape((struct span){text.p + 1, text.n - 2}, room)};
    }
    client_because(client, METRIC_REASON_WORKER);
    /* The session cuts a reason that is too long between characters. */
    client_session(client)->close(client, code, reason);
    buf_deinit(&plain);
}

static void to_connection(struct client *client, const struct push_from *from,
    const struct frame *frame, const struct topic_name *topic)
{
    const struct session_ops *session = client_session(client);
    switch (frame->head.type) {
    case FRAME_PUSH: push(client, frame); break;
    case FRAME_SUBSCRIBE: subscribe(client, topic); break;
    case FRAME_UNSUBSCRIBE:
        topics_leave(client->ctx->topics, session->subscriptions(client),
            session->route(client)->realm,
            topic->there ? (struct span){topic->name, topic->n} : (struct span){0});
        break;
    case FRAME_DISCONNECT: disconnect(client, frame); break;
    case FRAME_STATE: keep(client, from, payload_of(frame)); break;
    default: break;
    }
}

void push_handle(struct ctx *ctx, const struct push_from *from, const struct frame *frame)
{
    struct topic_name topic;
    const char *wrong = check(frame, ctx->conf->limits.state, &topic);
    if (UNLIKELY(wrong != NULL)) {
        refuse(ctx, from, frame, wrong);
        return;
    }
    if (frame->head.type == FRAME_PUBLISH) {
        publish(ctx, from, frame, &topic);
        if (from->worker != NULL)
            mesh_forward(ctx->mesh, from->realm, frame);
        return;
    }
    struct client *client = client_find(ctx, frame->head.conn);
    if (UNLIKELY(client != NULL && client_session(client)->route(client)->realm != from->realm)) {
        if (!from->replay)
            refuse(ctx, from, frame, "the connection is of another realm");
        return;
    }
    if (client != NULL && (!from->replay || wants_replay(client)))
        to_connection(client, from, frame, &topic);
    if ((client == NULL || may_go_back(client)) && from->worker != NULL)
        mesh_forward(ctx->mesh, from->realm, frame);
}

static void count(const struct ctx *ctx, uint8_t type)
{
    static const uint8_t types[256] = {
        [FRAME_PUSH] = METRIC_PUSH_PUSH + 1,
        [FRAME_PUBLISH] = METRIC_PUSH_PUBLISH + 1,
        [FRAME_SUBSCRIBE] = METRIC_PUSH_SUBSCRIBE + 1,
        [FRAME_UNSUBSCRIBE] = METRIC_PUSH_UNSUBSCRIBE + 1,
        [FRAME_DISCONNECT] = METRIC_PUSH_DISCONNECT + 1,
        [FRAME_STATE] = METRIC_PUSH_STATE + 1,
    };
    if (LIKELY(types[type] > 0))
        share_count(&ctx->count->pushes[types[type] - 1], 1);
}

void push_from_worker(struct worker *worker, const struct frame *frame)
{
    const struct pool *pool = worker->pool;
    count(pool->ctx, frame->head.type);
    const struct push_from from = {.realm = pool->conf->realm_id, .worker = worker};
    push_handle(pool->ctx, &from, frame);
}

void push_from_sibling(struct ctx *ctx, uint64_t realm, const struct frame *frame)
{
    const struct push_from from = {.realm = realm};
    push_handle(ctx, &from, frame);
}

void push_replay(struct ctx *ctx, uint64_t realm, const struct frame *frame)
{
    push_handle(ctx, &(struct push_from){.realm = realm, .replay = true}, frame);
}
