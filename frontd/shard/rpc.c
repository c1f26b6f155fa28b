/*
 * rpc_start() scans the body and starts a call for each request in it. A single call's answer is
 * relayed as it comes; a batch's answers gather, in the order in which they come, until the last of
 * its calls has ended. Notifications have no part in the answer: with nothing else it is 204.
 */

#include "frontd/shard/rpc.h"

#include <errno.h>

#include "common/mem.h"
#include "frontd/shard/meta.h"
#include "proto/jsonrpc.h"

enum {
    BATCH_REPLY_MAX = FRAME_MAX_DEFAULT, /* bytes; a member's answer beyond it becomes an error */
};

static struct jsonrpc_request *members; /* of the batch being looked at: limits.batch of them */
static size_t members_room;

int rpc_init(const struct conf *conf)
{
    members_room = conf->limits.batch;
    members = mem_zalloc(members_room * sizeof(*members));
    return members == NULL ? -ENOMEM : 0;
}

void rpc_deinit(void)
{
    members = mem_free(members);
}

int rpc_error_write(struct buf *out, enum rpc_error error, struct span id)
{
    if (id.n == 0)
        id = SPAN("null");
    return buf_printf(out,
        "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":%d,\"message\":\"%s\"},\"id\":%.*s}", (int)error,
        rpc_error_message(error), (int)id.n, id.p);
}

/* One member's answer in the batch's. Where there is no memory the member has no answer. */
static void add_to_batch(struct request *request, struct span text)
{
    struct buf *batch = &request->batch;
    size_t before = buf_len(batch);
    if (buf_append(batch, before == 0 ? "[" : ",", 1) < 0 || buf_append(batch, text.p, text.n) < 0)
        buf_truncate(batch, before);
}

static void add_error_to_batch(struct request *request, enum rpc_error error, struct span id)
{
    struct buf text = {0};
    if (rpc_error_write(&text, error, id) == 0)
        add_to_batch(request, (struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
}

/* One of the things that the request waits for is over; with the last, a batch is answered. */
static void one_less(struct request *request)
{
    CHECK(request->pending > 0);
    if (--request->pending > 0)
        return;
    struct reply reply = {.status = 204};
    if (buf_len(&request->batch) > 0 && buf_append(&request->batch, "]", 1) == 0) {
        reply.status = 200;
        reply.content_type = "application/json";
        reply.body = (struct span){buf_data(&request->batch), buf_len(&request->batch)};
    }
    request_reply(request, &reply);
}

/* An error for one member, or for the whole request where it is not a batch. */
static void fail(struct request *request, enum rpc_error error, struct span id, bool notify)
{
    if (notify || request->is_batch) {
        if (!notify)
            add_error_to_batch(request, error, id);
        one_less(request);
        return;
    }
    request_error(request, error, id);
}

void rpc_ended(struct request *request, struct call *call, const struct outcome *outcome)
{
    struct jsonrpc_response response;
    bool notify = call != NULL && call->job.notify;
    struct span id = call == NULL ? (struct span){0} : call_id(call);
    enum rpc_error error = outcome->error;
    if (error == 0 && !notify &&
        jsonrpc_scan_response(outcome->body.p, outcome->body.n, &response) != 0)
        error = RPC_BAD_RESPONSE;
    if (error == 0 && request->is_batch &&
        buf_len(&request->batch) + outcome->body.n > BATCH_REPLY_MAX)
        error = RPC_TOO_LARGE;
    if (error != 0) {
        fail(request, error, id, notify);
    } else if (request->is_batch || notify) {
        if (!notify)
            add_to_batch(request, outcome->body);
        one_less(request);
    } else {
        struct reply reply = {
            .status = 200,
            .content_type = "application/json",
            .body = outcome->body,
        };
        request_reply(request, &reply);
    }
}

/* Methods by which the front itself speaks to workers: no client may pretend to be the front. */
static bool is_reserved(struct span method)
{
    static const struct span own = {"http.request", 12};
    return (method.n >= 7 && memcmp(method.p, "frontd.", 7) == 0) ||
           (method.n == own.n && memcmp(method.p, own.p, own.n) == 0);
}

/* The pool that takes the member's method; -1: none, -ENOMEM. */
static int pool_of(
    const struct conf *conf, const struct conf_route *route, const struct jsonrpc_request *member)
{
    if (LIKELY(!member->method_escaped))
        return is_reserved(member->method) ? -1 : router_pool(conf, route, member->method);
    struct buf plain = {0};
    char *room = buf_room(&plain, member->method.n);
    if (room == NULL)
        return -ENOMEM;
    size_t n = jsonrpc_unescape(member->method, room);
    struct span method = {room, n};
    int pool = is_reserved(method) ? -1 : router_pool(conf, route, method);
    buf_deinit(&plain);
    return pool;
}

static void start_member(
    struct request *request, const struct http1_head *head, const struct jsonrpc_request *member)
{
    struct client *client = request->client;
    const struct conf *conf = client->ctx->conf;
    bool notify = member->kind == JSONRPC_NOTIFY;
    if (member->kind == JSONRPC_INVALID) {
        request->pending++;
        fail(request, RPC_INVALID_REQUEST, member->id, false);
        return;
    }
    int pool = pool_of(conf, request->route, member);
    if (pool < 0) {
        request->pending++;
        fail(request, pool == -1 ? RPC_METHOD_NOT_FOUND : RPC_OVERLOADED, member->id, notify);
        return;
    }
    struct call_spec spec = {
        .body = member->text,
        .method = member->method,
        .method_escaped = member->method_escaped,
        .id = member->id,
        .notify = notify,
        .conn = client->stay == NULL ? 0 : client->conn.id,
    };
    struct buf meta = {0};
    if (conf->pools[pool].hash != CONF_HASH_NONE)
        spec.hash = meta_hash(&conf->pools[pool], client, head, member->params);
    if (meta_write(&meta, request->route, client, head, &spec.left_at) < 0) {
        buf_deinit(&meta);
        request->pending++;
        fail(request, RPC_OVERLOADED, member->id, notify);
        return;
    }
    spec.meta = (struct span){buf_data(&meta), buf_len(&meta)};
    request_call(request, &spec, (uint32_t)pool);
    buf_deinit(&meta);
}

static enum rpc_error error_of_scan(int r)
{
    switch (r) {
    case JSONRPC_E_PARSE: return RPC_PARSE_ERROR;
    case JSONRPC_E_BATCH: return RPC_TOO_LARGE;
    default: return RPC_INVALID_REQUEST;
    }
}

void rpc_start(struct request *request, const struct http1_head *head, struct span body)
{
    size_t count;
    bool batch;
    members[0].id = (struct span){0};
    int r = jsonrpc_scan(body.p, body.n, members, members_room, &count, &batch);
    if (r != 0) {
        request_error(
            request, error_of_scan(r), r == JSONRPC_E_INVALID ? members[0].id : (struct span){0});
        return;
    }
    request->is_batch = batch;
    if (!batch) {
        start_member(request, head, &members[0]); /* the request may be gone now */
        return;
    }
    request->pending = 1; /* calls may end while others are being started */
    for (size_t i = 0; i < count; i++)
        start_member(request, head, &members[i]);
    one_less(request);
}
