/*
 * jsonrpc_start() scans the body and starts a call for each request in it. A single call's answer
 * is relayed as it comes; a batch's answers gather, in the order in which they come, until the last
 * of its calls has ended. Notifications have no part in the answer; where there is nothing else,
 * the answer is 204. Responses of a client have none either: they answer what a worker has pushed,
 * and each becomes a notification frontd.response, or is dropped.
 *
 * Members of a batch count as requests of their connection: where no more may be started, the
 * others wait in request->rest, with a copy of their text. As calls of the connection end,
 * jsonrpc_go_on() starts more of them, at the end of a turn. The deadline of all is counted from
 * when the batch came.
 */

#include "frontd/shard/routes/jsonrpc.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/codec/content_coding.h"
#include "frontd/shard/client/affinity.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/net/incident.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/request/canary.h"
#include "frontd/shard/request/conn_events.h"
#include "frontd/shard/request/context.h"
#include "frontd/shard/request/policy.h"
#include "frontd/shard/request/progress.h"
#include "frontd/shard/session/duplex.h"
#include "proto/envelope.h"
#include "proto/json_read.h"
#include "proto/jsonrpc.h"

enum {
    BATCH_REPLY_MAX = FRAME_MAX_DEFAULT, /* bytes; a member's answer beyond it becomes an error */
    GO_ON_MAX = 256,                     /* members that are started at a time */
};

/* What members of a batch are started with. */
struct origin {
    const struct http_head *head;  /* NULL: of a message, or not there any more */
    const struct batch_rest *rest; /* of members that have waited, which have no head; else NULL */
    struct span meta;
    size_t left_at; /* in meta, as in struct call_spec */
    size_t span_at;
    uint64_t timeout; /* ms; 0: the route's */
};

struct member_place {
    uint32_t at; /* in batch_rest.text */
    uint32_t n;
};

/* The members of a batch that wait: one block, with their places, their text and the meta in it. */
struct batch_rest {
    size_t size;      /* of the block */
    uint64_t expires; /* ms */
    size_t left_at;   /* in meta */
    size_t span_at;
    uint32_t next; /* of places */
    uint32_t count;
    uint64_t *hashes; /* of each pool of the route, where it hashes on a header */
    struct span meta;
    const char *text;
    struct member_place places[];
};

int jsonrpc_init(struct jsonrpc *jsonrpc, struct ctx *ctx)
{
    size_t room = ctx->conf->limits.batch;
    *jsonrpc = (struct jsonrpc){.room = room};
    jsonrpc->members = mem_zalloc(room * sizeof(*jsonrpc->members));
    ctx->jsonrpc = jsonrpc;
    return jsonrpc->members == NULL ? -ENOMEM : 0;
}

void jsonrpc_deinit(struct jsonrpc *jsonrpc)
{
    jsonrpc->members = mem_free(jsonrpc->members);
    if (jsonrpc->dropped > 0)
        log_info("%llu Responses of clients were dropped", (unsigned long long)jsonrpc->dropped);
}

/* Appends a member's answer to the batch's. Where there is no memory the member has no answer. */
static void add_to_batch(struct request *request, struct span text)
{
    struct buf *batch = &request->batch;
    size_t before = buf_len(batch);
    if (buf_append(batch, before == 0 ? "[" : ",", 1) < 0 || buf_append(batch, text.p, text.n) < 0)
        buf_truncate(batch, before);
    uint32_t more = (uint32_t)(buf_len(batch) - before);
    request->gathered += more;
    request->client->held_back += more;
}

static void add_error_to_batch(struct request *request, enum rpc_error error, struct span id)
{
    struct buf text = {0};
    if (rpc_error_write(&text, error, id) == 0)
        add_to_batch(request, (struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
}

/* One call that the request waits for has ended; with the last one it is answered. */
static void one_less(struct request *request)
{
    CHECK(request->pending > 0);
    if (--request->pending > 0) {
        if (request->rest != NULL)
            client_touch(request->client); /* others may be started */
        return;
    }
    struct reply reply = {.status = 204};
    struct buf batch = request->batch; /* freed here, not when it is this request's turn */
    request->batch = (struct buf){0};
    request->client->held_back -= request->gathered;
    request->gathered = 0;
    if (buf_len(&batch) > 0 && buf_append(&batch, "]", 1) == 0) {
        reply.status = 200;
        reply.content_type = "application/json";
        reply.body = (struct span){buf_data(&batch), buf_len(&batch)};
    }
    request_reply_coded(request, &reply);
    buf_deinit(&batch);
}

/* An error for one member, or for the whole request where it is not a batch. */
static void fail(struct request *request, enum rpc_error error, struct span id, bool notify)
{
    if (notify || request->is_batch) {
        if (!request->is_batch)
            request->code = metric_code_of_error((int)error);
        struct peer peer = request_peer(request);
        refusal_note_error(request->client, &peer, error);
        if (!notify)
            add_error_to_batch(request, error, id);
        one_less(request);
        return;
    }
    request_error(request, error, id);
}

/* The same for one that has not become a call. */
static void refuse(struct request *request, enum rpc_error error, struct span id, bool notify)
{
    if (request->is_batch)
        account_member(request, metric_code_of_error((int)error));
    fail(request, error, id, notify);
}

/* Counts a Response that is dropped. Clients can cause it with every message, so few are logged. */
static void drop_response(const struct request *request, const char *why)
{
    static struct log_limit limit;
    const struct client *client = request->client;
    uint64_t *dropped = &client->ctx->jsonrpc->dropped;
    ++*dropped;
    log_limited(&limit, ctx_now(client->ctx), LOG_WARNING,
        "listener %s, route %s: a client's Response is dropped: %s; %llu so far",
        client_listener(client)->name, request->route->path, why, (unsigned long long)*dropped);
}

/*
 * The client gets the worker's answer with the request's id, byte for byte. Most workers have
 * written the id in the same bytes, and their answer is relayed as it is; else *body becomes a
 * copy, in `copy`. theirs: the worker's id. Returns 0, or why the answer cannot be held.
 */
static enum rpc_error with_id(struct request *request, struct span theirs, struct span id,
    struct span *body, struct buf *copy)
{
    size_t n = body->n - theirs.n + id.n;
    CHECK(id.n > 0); /* what has none is a notification, and is not answered */
    if (request->is_batch && buf_len(&request->batch) + n > BATCH_REPLY_MAX)
        return RPC_TOO_LARGE;
    if (!request_fits(request, n))
        return RPC_OVERLOADED; /* the client does not read what it has */
    if (LIKELY(theirs.n == id.n && memcmp(theirs.p, id.p, id.n) == 0))
        return 0;
    char *room = buf_room(copy, n);
    if (room == NULL)
        return RPC_OVERLOADED;
    *body = (struct span){room, jsonrpc_replace_id(*body, theirs, id, room)};
    return 0;
}

/* The code of a worker's error, where it is a number that JSON-RPC may have; else 0. */
static int32_t code_of(struct span error)
{
    int64_t code = 0;
    int r = json_read_integer(jsonrpc_member(error, SPAN("code")), &code);
    return r == 0 && code >= INT32_MIN && code <= INT32_MAX ? (int32_t)code : 0;
}

enum metric_code jsonrpc_ended(
    struct request *request, struct call *call, const struct outcome *outcome)
{
    struct jsonrpc_response response;
    struct buf copy = {0};
    struct span body = outcome->body;
    bool notify = call == NULL ? outcome->notify : call->job.notify;
    struct span id = call == NULL ? (struct span){0} : call_id(call);
    enum rpc_error error = outcome->error;
    enum metric_code code = METRIC_CODE_OK;
    if (error == 0 && !notify)
        error = call_read_answer(outcome, &response);
    if (error == 0 && !notify)
        error = with_id(request, response.id, id, &body, &copy);
    if (error != 0) {
        code = metric_code_of_error((int)error);
    } else if (!notify && response.error.n > 0) {
        code = METRIC_CODE_APP;
        if (UNLIKELY(call != NULL && call->mark != NULL))
            call->app_code = code_of(response.error);
    }
    if (!request->is_batch)
        request->code = code;
    if (error != 0) {
        if (call != NULL && event_is_response(call))
            drop_response(request, rpc_error_message(error));
        fail(request, error, id, notify);
    } else if (request->is_batch || notify) {
        if (!notify)
            add_to_batch(request, body);
        one_less(request);
    } else {
        struct reply reply = {
            .status = 200,
            .content_type = "application/json",
            .body = body,
        };
        request_reply_coded(request, &reply);
    }
    buf_deinit(&copy);
    return code;
}

/*
 * The pool that takes the member's method; -1: none, -ENOMEM. *ret_error: where there is one,
 * whether the call may be made, as policy_admit() says.
 */
static int find_pool(struct request *request, const struct origin *origin,
    const struct jsonrpc_request *member, struct call_spec *spec, enum rpc_error *ret_error)
{
    struct buf plain = {0};
    struct span method = member->method;
    if (envelope_is_reserved(method))
        return -1; /* no client may pretend to be the front */
    if (UNLIKELY(member->method_escaped)) {
        char *room = buf_room(&plain, method.n);
        if (room == NULL)
            return -ENOMEM;
        method = (struct span){room, jsonrpc_unescape(method, room)};
    }
    int pool = canary_pool(request->client->ctx, request->route, method, request->canary);
    if (LIKELY(pool >= 0))
        *ret_error = policy_admit(request, method, origin->head, spec);
    buf_deinit(&plain);
    return pool;
}

static uint64_t hash_of(const struct request *request, const struct origin *origin,
    const struct jsonrpc_request *member, uint32_t pool)
{
    const struct conf_pool *conf = &request->client->ctx->conf->pools[pool];
    if (LIKELY(conf->hash == CONF_HASH_NONE))
        return 0;
    if (conf->hash == CONF_HASH_HEADER && origin->rest != NULL) {
        for (uint32_t i = 0; i < request->route->npools; i++) {
            if (request->route->pools[i] == pool)
                return origin->rest->hashes[i];
        }
    }
    struct peer peer = request_peer(request);
    return meta_hash(conf, request->client, &peer, origin->head, member->params);
}

/* Whether the member is for a worker. */
static bool is_wanted(const struct jsonrpc_request *member)
{
    return member->kind != JSONRPC_INVALID && member->kind != JSONRPC_BAD_RESPONSE;
}

/* Whether the member is not answered, whatever becomes of it. */
static bool is_silent(const struct jsonrpc_request *member)
{
    return member->kind != JSONRPC_CALL && member->kind != JSONRPC_INVALID;
}

/* Whether the client has closed its connection, and what comes from it now came before that. */
static bool is_past_answers(const struct client *client)
{
    return client_is_duplex(client) && client->duplex->close_follows;
}

/* Starts a Response, which answers what a worker has pushed: it is never answered itself. */
static void start_response(
    struct request *request, const struct origin *origin, const struct jsonrpc_request *member)
{
    struct client *client = request->client;
    struct call_spec spec = {
        .meta = origin->meta,
        .left_at = origin->left_at,
        .span_at = origin->span_at,
        .timeout = origin->timeout,
    };
    const char *why = NULL;
    if (!client_is_duplex(client))
        why = "it came in an HTTP request, to which no worker can push";
    else if (!request->route->responses)
        why = "the route does not say `responses: true`";
    else if (member->kind == JSONRPC_BAD_RESPONSE)
        why = "it is not valid";
    else if (UNLIKELY(ctx_memory(client->ctx) >= MEMORY_SHORT))
        why = "memory is short";
    else
        why = event_response(request, &spec, member);
    if (why == NULL)
        return; /* the request may be gone */
    drop_response(request, why);
    request->pending++;
    one_less(request);
}

static void start_member(
    struct request *request, const struct origin *origin, const struct jsonrpc_request *member)
{
    struct client *client = request->client;
    struct ctx *ctx = client->ctx;
    bool notify = member->kind == JSONRPC_NOTIFY;
    if (UNLIKELY(member->kind == JSONRPC_RESPONSE || member->kind == JSONRPC_BAD_RESPONSE)) {
        start_response(request, origin, member);
        return;
    }
    if (member->kind == JSONRPC_INVALID) {
        request->pending++;
        incident_show(ctx, INCIDENT_JSON, member->text);
        refuse(request, RPC_INVALID_REQUEST, member->id, false);
        incident_hide(ctx);
        return;
    }
    if (!notify && UNLIKELY(is_past_answers(client))) {
        request->pending++;
        one_less(request);
        return;
    }
    struct call_spec limits = {.timeout = origin->timeout};
    enum rpc_error error = 0;
    int pool = -ENOMEM;
    if (LIKELY(ctx_memory(ctx) < MEMORY_SHORT))
        pool = find_pool(request, origin, member, &limits, &error);
    if (pool < 0)
        error = pool == -1 ? RPC_METHOD_NOT_FOUND : RPC_OVERLOADED;
    if (UNLIKELY(error != 0)) {
        request->pending++;
        struct peer peer = request_peer(request);
        if (error == RPC_METHOD_NOT_FOUND)
            refusal_note_method(client, &peer, member->method);
        refuse(request, error, member->id, notify);
        return;
    }
    uint16_t kind = expect_kind(ctx->expect_seed, (uint32_t)pool, member->method);
    struct call_spec spec = {
        .body = member->text,
        .method = member->method,
        .method_escaped = member->method_escaped,
        .id = member->id,
        .notify = notify,
        .conn = !client_is_duplex(client) ? 0 : client->conn.id,
        .meta = origin->meta,
        .left_at = origin->left_at,
        .span_at = origin->span_at,
        .hash = hash_of(request, origin, member, (uint32_t)pool),
        .home = LIKELY(ctx->bound == 0) ? 0 : affinity_home(client, (uint32_t)pool),
        .timeout = limits.timeout,
        .policy = limits.policy,
        .limit = limits.limit,
        .kind = kind,
        .wide_kind = kind,
    };
    request_call(request, &spec, (uint32_t)pool);
}

/* Whether one more member may be started: as client_may_start(), for what has been let in. */
static bool may_go_on(const struct request *request)
{
    const struct client *client = request->client;
    const struct conf_limits *limits = &client->ctx->conf->limits;
    if (client->calls >= limits->calls_per_connection)
        return false;
    /* The answer that gathers may have any size, unless other requests' gather beside it. */
    bool alone = client->requests.next == client->requests.prev;
    size_t waiting = client_waiting(client);
    size_t held = client->held_back - request->gathered;
    size_t own = request->rest == NULL ? 0 : request->rest->size;
    if (client->calls == 0)
        return waiting + held < limits->write_buffer || waiting == 0;
    return waiting + held + (alone ? 0 : request->gathered) + client->claimed - own <
           limits->write_buffer;
}

static size_t aligned(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

/* Keeps the members that wait. Returns 0 or -ENOMEM. */
static int keep_rest(struct request *request, const struct origin *origin,
    const struct jsonrpc_request *from, size_t n)
{
    const struct conf_route *route = request->route;
    struct client *client = request->client;
    const char *text = from[0].text.p;
    size_t text_len = (size_t)(from[n - 1].text.p + from[n - 1].text.n - text);
    size_t hashes_at = aligned(sizeof(struct batch_rest) + n * sizeof(struct member_place));
    size_t text_at = hashes_at + route->npools * sizeof(uint64_t);
    size_t size;
    struct batch_rest *rest = mem_get(text_at + text_len + origin->meta.n, &size);
    if (rest == NULL)
        return -ENOMEM;
    *rest = (struct batch_rest){
        .size = size,
        .expires = ctx_now(client->ctx) + route->timeout,
        .left_at = origin->left_at,
        .span_at = origin->span_at,
        .hashes = (void *)((char *)rest + hashes_at),
        .text = (char *)rest + text_at,
        .meta = {(char *)rest + text_at + text_len, origin->meta.n},
    };
    memcpy((char *)rest + text_at, text, text_len);
    if (origin->meta.n > 0)
        memcpy((char *)rest + text_at + text_len, origin->meta.p, origin->meta.n);
    struct peer peer = request_peer(request);
    for (uint32_t i = 0; i < route->npools; i++) {
        const struct conf_pool *pool = &client->ctx->conf->pools[route->pools[i]];
        rest->hashes[i] = pool->hash == CONF_HASH_HEADER
                              ? meta_hash(pool, client, &peer, origin->head, (struct span){0})
                              : 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(&from[i]))
            continue; /* it is answered, or dropped, already */
        rest->places[rest->count++] = (struct member_place){
            .at = (uint32_t)(from[i].text.p - text), .n = (uint32_t)from[i].text.n};
    }
    request->rest = rest;
    client->claimed += (uint32_t)size;
    client->backlog = true;
    client_touch(client);
    return 0;
}

void jsonrpc_drop_rest(struct request *request)
{
    if (LIKELY(request->rest == NULL))
        return;
    request->client->claimed -= (uint32_t)request->rest->size;
    mem_put(request->rest, request->rest->size);
    request->rest = NULL;
}

size_t jsonrpc_rest_size(const struct request *request)
{
    return request->rest == NULL ? 0 : request->rest->size;
}

/* Starts the next member that waits. */
static void start_next(struct request *request)
{
    struct batch_rest *rest = request->rest;
    const struct member_place *place = &rest->places[rest->next++];
    uint64_t now = ctx_now(request->client->ctx);
    struct jsonrpc_request member;
    size_t count;
    bool batch;
    CHECK(jsonrpc_scan(rest->text + place->at, place->n, &member, 1, &count, &batch) == 0);
    struct origin origin = {
        .rest = rest,
        .meta = rest->meta,
        .left_at = rest->left_at,
        .span_at = rest->span_at,
        .timeout = rest->expires > now ? rest->expires - now : 0,
    };
    if (origin.timeout > 0) {
        start_member(request, &origin, &member);
        return;
    }
    request->pending++;
    if (member.kind == JSONRPC_RESPONSE)
        drop_response(request, rpc_error_message(RPC_DEADLINE_EXCEEDED));
    refuse(request, RPC_DEADLINE_EXCEEDED, member.id, is_silent(&member));
}

bool jsonrpc_go_on(struct request *request)
{
    struct batch_rest *rest = request->rest;
    for (int i = 0; rest->next < rest->count; i++) {
        if (i == GO_ON_MAX)
            client_touch(request->client);
        if (i == GO_ON_MAX || !may_go_on(request))
            return false;
        start_next(request);
    }
    jsonrpc_drop_rest(request);
    one_less(request);
    return true;
}

/* Starts as many of a batch's members as may be, and keeps the others. */
static void start_batch(struct request *request, const struct origin *origin,
    const struct jsonrpc_request *all, size_t n)
{
    size_t at = 0;
    request->pending = 1; /* since calls may end while others are being started, or wait */
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(&all[i]))
            start_member(request, origin, &all[i]);
    }
    for (; at < n && (!is_wanted(&all[at]) || may_go_on(request)); at++) {
        if (is_wanted(&all[at]))
            start_member(request, origin, &all[at]);
    }
    if (at < n && keep_rest(request, origin, all + at, n - at) == 0)
        return;
    for (; at < n; at++) {
        if (!is_wanted(&all[at]))
            continue;
        request->pending++;
        if (all[at].kind == JSONRPC_RESPONSE)
            drop_response(request, rpc_error_message(RPC_OVERLOADED));
        refuse(request, RPC_OVERLOADED, all[at].id, is_silent(&all[at]));
    }
    one_less(request);
}

static enum metric_class class_of(const struct jsonrpc_request *member)
{
    switch (member->kind) {
    case JSONRPC_CALL: return METRIC_CLASS_CALL;
    case JSONRPC_NOTIFY: return METRIC_CLASS_NOTIFICATION;
    case JSONRPC_RESPONSE:
    case JSONRPC_BAD_RESPONSE: return METRIC_CLASS_RESPONSE;
    default: return METRIC_CLASS_INVALID;
    }
}

static enum rpc_error error_of_scan(int r)
{
    switch (r) {
    case JSONRPC_E_PARSE: return RPC_PARSE_ERROR;
    case JSONRPC_E_BATCH: return RPC_TOO_LARGE;
    default: return RPC_INVALID_REQUEST;
    }
}

static void choose_canary(struct request *request, const struct http_head *head)
{
    const struct client *client = request->client;
    const struct peer peer = request_peer(request);
    request->canary = client_is_duplex(client)
                          ? client->duplex->canary
                          : canary_takes(request->route, &peer, client->conn.id, head);
}

void jsonrpc_start(struct request *request, const struct http_head *head, struct span body)
{
    const struct jsonrpc *jsonrpc = request->client->ctx->jsonrpc;
    struct jsonrpc_request *members = jsonrpc->members;
    size_t count;
    bool batch;
    members[0].id = (struct span){0};
    int r = jsonrpc_scan(body.p, body.n, members, jsonrpc->room, &count, &batch);
    request->class = METRIC_CLASS_INVALID;
    if (r != 0) {
        struct ctx *ctx = request->client->ctx;
        incident_show(ctx, INCIDENT_JSON, body);
        request_error(
            request, error_of_scan(r), r == JSONRPC_E_INVALID ? members[0].id : (struct span){0});
        incident_hide(ctx);
        return;
    }
    request->is_batch = batch;
    choose_canary(request, head);
    request->progress = progress_wanted(request, head);
    request->class = batch ? METRIC_CLASS_BATCH : class_of(&members[0]);
    struct buf meta = {0};
    struct origin origin = {.head = head};
    if (meta_write(&meta, request, head, &origin.left_at, &origin.span_at) < 0) {
        buf_deinit(&meta);
        request->pending = 1;
        if (!batch && is_silent(&members[0]))
            one_less(request);
        else
            request_error(request, RPC_OVERLOADED, batch ? (struct span){0} : members[0].id);
        return;
    }
    origin.meta = (struct span){buf_data(&meta), buf_len(&meta)};
    if (batch)
        start_batch(request, &origin, members, count);
    else
        start_member(request, &origin, &members[0]); /* the request may be gone now */
    buf_deinit(&meta);
}

static unsigned refuses(const struct conf_route *route, const struct http_head *head)
{
    if (head->method == HTTP_OPTIONS)
        return 0;
    if (head->method != HTTP_POST)
        return 405;
    if (LIKELY(!head->content_coded))
        return 0;
    /* Another one would be parsed as if it were JSON. */
    return route->gunzip && coding_of_body(head) == CODING_GZIP ? 0 : 415;
}

const struct route_ops jsonrpc_route = {
    .allow = {"Allow: POST, OPTIONS\r\n", 22},
    .answers_options = true,
    .is_json = true,
    .has_own_too_large = true,
    .refuses = refuses,
    .start = jsonrpc_start,
    .ended = jsonrpc_ended,
    .go_on = jsonrpc_go_on,
    .drop_rest = jsonrpc_drop_rest,
    .rest_size = jsonrpc_rest_size,
};

const struct route_ops stream_route = {
    .is_json = true,
    .start = jsonrpc_start,
    .ended = jsonrpc_ended,
    .go_on = jsonrpc_go_on,
    .drop_rest = jsonrpc_drop_rest,
    .rest_size = jsonrpc_rest_size,
};
