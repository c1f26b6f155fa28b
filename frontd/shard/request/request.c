/*
 * A request is added by its session → its route is found, and a page's right to it judged (HTTP) →
 * the route starts calls (request_call()), each of which is charged to the client → each ends in
 * tell(), which hands its outcome to the route → the route answers (request_reply()), and the
 * session sends the answer and frees the request.
 */

#include "frontd/shard/request/request.h"

#include <errno.h>
#include <time.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/codec/cross_site.h"
#include "frontd/codec/forwarded.h"
#include "frontd/ipc/shm_limits.h"
#include "frontd/shard/client/refusal.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/request/coded_body.h"
#include "frontd/shard/request/evidence.h"
#include "frontd/shard/request/parked.h"
#include "frontd/shard/request/route_ops.h"
#include "frontd/shard/request/router.h"
#include "frontd/shard/upstream/asker.h"
#include "frontd/shard/upstream/worker.h"

/* An answer may be larger than was expected by a NEARLY_PART-th and NEARLY_BYTES. */
enum { NEARLY_PART = 8, NEARLY_BYTES = 64 };

/* Takes back what the client was charged for a call in progress. */
static void unclaim(struct client *client, struct call *call)
{
    client->claimed -= call->claim + call->expected;
    client->held_back -= call->parts;
    call->claim = call->expected = call->parts = 0;
}

/* How large the answer to a call of that kind is expected to be, in bytes. */
static uint32_t expected_of(
    const struct client *client, uint16_t kind, uint16_t wide_kind, bool *ret_shrinks)
{
    struct ctx *ctx = client->ctx;
    const struct conf_limits *limits = &ctx->conf->limits;
    return expect_size(&ctx->expect, expect_known(&ctx->expect, kind) ? kind : wide_kind,
        limits->write_buffer, limits->calls_per_connection, ctx_now(ctx), ret_shrinks);
}

static void guess_again(struct client *client)
{
    client->guessed = false;
    list_for_each (of, &client->requests) {
        list_for_each (node, &container_of(of, struct request, node)->calls) {
            struct call *call = container_of(node, struct call, node);
            if (!call->guessed)
                continue;
            uint32_t expected = expected_of(client, call->kind, call->wide_kind, &call->guessed);
            if (expected < call->expected) {
                client->claimed -= call->expected - expected;
                call->expected = expected;
            }
            client->guessed |= call->guessed;
        }
    }
}

static void note_answer(struct client *client, const struct call *call, size_t n)
{
    struct expect *expect = &client->ctx->expect;
    bool known = expect_known(expect, call->kind);
    expect_answered(expect, call->kind, n);
    if (call->wide_kind != call->kind)
        expect_answered(expect, call->wide_kind, n);
    if (UNLIKELY(!known) && client->guessed)
        guess_again(client);
}

static size_t held_for(struct request *request)
{
    const struct session_ops *session = client_session(request->client);
    size_t n = request->batch.size + parked_holds(request->parked);
    if (request->coding.coder != NULL)
        n += COMPRESS_STREAM_SIZE;
    if (session->request_holds != NULL)
        n += session->request_holds(request);
    if (request->rest != NULL)
        n += route_ops_of(request)->rest_size(request);
    list_for_each (node, &request->calls) {
        const struct call *call = container_of(node, struct call, node);
        n += call->job.frame.size + call->parts;
    }
    return n;
}

static size_t held_for_all(const struct client *client)
{
    size_t n = 0;
    list_for_each (node, &client->requests)
        n += held_for(container_of(node, struct request, node));
    return n;
}

bool request_fits(struct request *request, size_t n)
{
    struct client *client = request->client;
    size_t promised = request->promised;
    if (n <= promised + promised / NEARLY_PART + NEARLY_BYTES &&
        LIKELY(ctx_memory(client->ctx) < MEMORY_OUT))
        return true;
    bool next = !client_keeps_order(client) || client->requests.next == &request->node;
    return client_fits(client, n, request->gathered, next && !request->is_batch);
}

static struct request *first_with_rest(const struct client *client)
{
    list_for_each (node, &client->requests) {
        struct request *request = container_of(node, struct request, node);
        if (request->rest != NULL)
            return request;
    }
    return NULL;
}

static void go_on(struct client *client)
{
    struct request *request;
    while ((request = first_with_rest(client)) != NULL && route_ops_of(request)->go_on(request))
        ; /* the request may be gone, and others with it */
    client->backlog = request != NULL;
}

/* Bytes of an answer that there has to be room for. */
static size_t room_for(const struct request *request, const struct outcome *outcome)
{
    size_t n = outcome->body.n + outcome->blob.n;
    return LIKELY(!outcome->streamed) ? n : MIN(n + request->bytes_out, (size_t)JOB_WINDOW);
}

/* Hands the outcome of a call (NULL: there was no memory for it) to the route; to the session
 * where that has asked a worker about the connection. */
static void tell(struct request *request, struct call *call, const struct outcome *outcome)
{
    struct client *client = request->client;
    struct account_from from = account_from(request); /* the request may be gone below */
    enum metric_code code;
    client->calls--;
    request->promised = 0;
    if (UNLIKELY(outcome->retry_after != 0))
        request->retry_after = outcome->retry_after;
    if (LIKELY(call != NULL)) {
        request->promised = call->expected;
        unclaim(client, call);
        if (outcome->error == 0 && !call->job.notify)
            note_answer(client, call, room_for(request, outcome));
    }
    if (request->asking)
        code = client_session(client)->asked(request, outcome);
    else
        code = route_ops_of(request)->ended(request, call, outcome);
    if (LIKELY(call != NULL))
        account_call(client->ctx, call, &from, outcome, code);
}

static void on_ended(struct call *call, const struct outcome *outcome)
{
    static const struct account_from unknown;
    if (call->owner != NULL)
        tell(call->owner, call, outcome);
    else
        account_call(call->job.pool->ctx, call, &unknown, outcome,
            metric_code_of_error((int)outcome->error));
}

static bool on_part(struct call *call, size_t n)
{
    struct request *request = call->owner;
    struct client *client = request->client;
    if (!client_fits(client, n, call->parts, false))
        return false;
    call->parts += (uint32_t)n;
    client->held_back += (uint32_t)n;
    expect_at_least(&client->ctx->expect, call->kind, call->parts);
    return true;
}

static const struct call_ops call_ops = {
    .ended = on_ended,
    .part = on_part,
};

struct request *request_add(struct client *client, const struct conf_route *route)
{
    struct request *request = slab_get(&client->ctx->requests);
    if (request == NULL)
        return NULL;
    request->client = client;
    request->route = route;
    request->came_at = ctx_now_us(client->ctx);
    list_init(&request->calls);
    list_append(&client->requests, &request->node);
    return request;
}

void request_mark(struct request *request, const struct http_head *head)
{
    struct ctx *ctx = request->client->ctx;
    if (LIKELY(ctx->marks == NULL) || request->mark != NULL)
        return;
    request->mark = mark_new(ctx, head);
    if (request->mark != NULL && ctx->marks->made != NULL)
        ctx->marks->made(request, head);
}

static bool has_stream(const struct client *client)
{
    list_for_each (node, &client->requests) {
        if (container_of(node, struct request, node)->streams)
            return true;
    }
    return false;
}

void request_free(struct request *request)
{
    struct client *client = request->client;
    account_request(request);
    CHECK(list_empty(&request->calls));
    list_remove(&request->node);
    if (UNLIKELY(request->streams))
        client->streams = has_stream(client);
    if (UNLIKELY(request->uploads))
        client->uploads = client->upload_waits = false;
    if (UNLIKELY(request->rest != NULL))
        route_ops_of(request)->drop_rest(request);
    parked_free(request->parked);
    client->held_back -= request->gathered;
    CHECK(!list_empty(&client->requests) || (client->claimed == 0 && client->calls == 0));
    buf_deinit(&request->batch);
    if (UNLIKELY(request->coding.coder != NULL))
        compress_end(&request->coding, client->ctx);
    claims_put(request->claims);
    mark_put(client->ctx, request->mark);
    slab_put(&client->ctx->requests, request);
}

void request_cancel(struct request *request)
{
    list_for_each_safe (node, &request->calls) {
        struct call *call = container_of(node, struct call, node);
        struct account_from from = account_from(request);
        request->client->calls--;
        unclaim(request->client, call);
        if (!call->job.notify) /* which goes on without its request */
            account_call(request->client->ctx, call, &from, NULL, METRIC_CODE_CANCELLED);
        call_cancel(call);
    }
}

void request_abandon(struct request *request)
{
    const struct session_ops *session = client_session(request->client);
    request_cancel(request);
    if (session->abandoned != NULL)
        session->abandoned(request);
    request->code = METRIC_CODE_CANCELLED; /* an answer that has not gone out is none */
    request_free(request);
}

void request_abandon_all(struct client *client)
{
    list_for_each_safe (node, &client->requests)
        request_abandon(container_of(node, struct request, node));
}

static bool is_awaited(const struct request *request)
{
    if (request->parked != NULL)
        return true;
    list_for_each (node, &request->calls) {
        if (!container_of(node, struct call, node)->job.notify)
            return true;
    }
    return false;
}

static bool awaited(const struct client *client)
{
    list_for_each (node, &client->requests) {
        if (is_awaited(container_of(node, struct request, node)))
            return true;
    }
    return false;
}

/* Returns 0, or the status of what the route refuses, whatever the body is. */
static unsigned status_of_head(
    const struct ctx *ctx, const struct conf_route *route, const struct http_head *head)
{
    if (route == NULL)
        return 404;
    if (UNLIKELY(head->websocket) && route->kind != CONF_WEBSOCKET)
        return 405;
    const struct route_ops *ops = ctx->routes[route->kind];
    return ops->refuses == NULL ? 0 : ops->refuses(route, head);
}

/* Finds the route of a head (NULL: none). Returns 0, or the status of what is refused, whatever the
 * body is. */
static unsigned find_route(const struct ctx *ctx, const struct conf_listener *listener,
    const struct http_head *head, const struct conf_route **ret_route)
{
    *ret_route = NULL;
    if (head->form == HTTP_AUTHORITY)
        return 405; /* CONNECT: this is no proxy */
    if (head->form == HTTP_ASTERISK)
        return 0;
    int r = router_route(listener, head->authority, head->path, ret_route);
    if (r != 0)
        return r < 0 ? 503 : 400;
    return status_of_head(ctx, *ret_route, head);
}

/* Judges a request as one that a browser makes for a page. *ret_page: as request.page. */
static enum cross_site judge_page(const struct ctx *ctx, const struct conf_route *route,
    const struct http_head *head, const struct span **ret_page)
{
    int listed;
    *ret_page = NULL;
    if (route == NULL || !ctx->routes[route->kind]->answers_options)
        return CROSS_SITE_PASS;
    enum cross_site verdict = cross_site_judge(
        head, route->origins, route->norigins, route->cross_site_refuse, &listed);
    if (route->norigins > 0)
        *ret_page = &route->cors.fields[listed < 0 ? route->norigins : (uint32_t)listed];
    return verdict;
}

unsigned request_judge(const struct ctx *ctx, const struct conf_listener *listener,
    const struct http_head *head, const struct conf_route **ret_route)
{
    const struct span *page;
    unsigned status = find_route(ctx, listener, head, ret_route);
    if (status == 0 && judge_page(ctx, *ret_route, head, &page) == CROSS_SITE_REFUSE)
        status = 403;
    return status;
}

bool request_hopeless(const struct client *client, const struct http_head *head)
{
    const struct conf_route *route;
    return request_judge(client->ctx, client_listener(client), head, &route) != 0;
}

/* The log says why a page does not work any more after an update of the front or the config. */
static void log_cross_site(const struct request *request, const struct http_head *head)
{
    enum { SHOWN = 100 /* bytes */ };
    static struct log_limit limit;
    const struct client *client = request->client;
    const struct http_field *field = http_head_find(head, SPAN("origin"));
    struct span origin = field == NULL ? SPAN("not told") : field->value;
    log_limited(&limit, ctx_now(client->ctx), LOG_INFO,
        "listener %s, route %s: a cross-site request is refused with 403 (Origin: %.*s): see "
        "`origins` and `cross_site` of the route",
        client_listener(client)->name, request->route->path, (int)MIN(origin.n, (size_t)SHOWN),
        origin.p);
}

static struct span allow_of(const struct request *request)
{
    if (request->route != NULL && route_ops_of(request)->allow.n > 0)
        return route_ops_of(request)->allow;
    return SPAN("Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n");
}

/* Header fields that explain a status. */
static struct span fields_of_status(unsigned status, const struct request *request)
{
    switch (status) {
    case 405: return allow_of(request);
    case 415: /* RFC 9110 section 15.5.16 */
        return request->route != NULL && request->route->gunzip
                   ? SPAN("Accept-Encoding: gzip\r\n")
                   : SPAN("Accept-Encoding: identity\r\n");
    default: return (struct span){0};
    }
}

/* Whether the client may use the listener and the route. A listener's own list is looked at once
 * more, since the client of a proxy is known only now, and a reload may have changed it. */
static bool admits(const struct request *request)
{
    const struct conf_access *of_listener = &client_listener(request->client)->access;
    const struct conf_route *route = request->route;
    if (LIKELY(of_listener->nrules == 0 && (route == NULL || route->access.nrules == 0)))
        return true;
    const struct peer peer = request_peer(request);
    if (conf_trusts(client_listener(request->client), &peer))
        return true; /* a proxy asks by itself */
    return conf_admits(of_listener, &peer) && (route == NULL || conf_admits(&route->access, &peer));
}

/* Answers a request that its client's address may not send. A client of JSON-RPC is told by an
 * error that is not -32008: another token would not help. */
static void refuse_address(struct request *request)
{
    if (request->route != NULL && request->route->kind == CONF_JSONRPC)
        request_error(request, RPC_FORBIDDEN, (struct span){0});
    else
        request_status(request, 403, (struct span){0});
}

/*
 * Judges the token of a request. Returns whether the request goes on now: one whose token is not
 * taken, or that has none, has been answered, and one whose token is to be verified later is
 * parked.
 */
static bool pass_token(struct request *request, const struct http_head *head, struct span body)
{
    const struct client *client = request->client;
    const struct conf_route *route = request->route;
    const char *why;
    enum auth_verdict verdict = auth_judge(client->ctx->auth, client->ctx, route->jwt, head,
        route->kind == CONF_WEBSOCKET, (int64_t)time(NULL), &request->claims, &why);
    if (LIKELY(verdict == AUTH_PASS))
        return true;
    if (verdict == AUTH_LATER)
        request->parked = parked_new(request->client, request, head, body);
    if (request->parked != NULL)
        return false;
    if (verdict == AUTH_MEMORY || verdict == AUTH_LATER) {
        request_error(request, RPC_OVERLOADED, (struct span){0});
        return false;
    }
    struct peer peer = request_peer(request);
    refusal_note_token(client, &peer, why);
    request->token_wrong = verdict == AUTH_WRONG;
    if (route->kind == CONF_JSONRPC)
        request_error(request, RPC_UNAUTHORIZED, (struct span){0});
    else
        request_error_status(request, RPC_UNAUTHORIZED);
    return false;
}

/* The client of a request that has come through a proxy of the listener. */
static void find_peer(struct request *request, const struct http_head *head)
{
    const struct client *client = request->client;
    const struct conf_listener *listener = client_listener(client);
    if (LIKELY(!client->proxied))
        return;
    if (listener->forwarded == CONF_FORWARDED_X)
        forwarded_x_find(
            head, listener->trusted_proxies, listener->ntrusted_proxies, &request->peer);
    else if (listener->forwarded == CONF_FORWARDED_RFC7239)
        forwarded_find(head, listener->trusted_proxies, listener->ntrusted_proxies, &request->peer);
}

/* Starts a request whose body is to be inflated. */
static void start_coded(struct request *request, const struct http_head *head, struct span body)
{
    struct ctx *ctx = request->client->ctx;
    struct buf plain = {0};
    const unsigned status = coded_body_read(request->client, body, &plain);
    request->inflated = true;
    if (status == 0) {
        route_ops_of(request)->start(
            request, head, (struct span){buf_data(&plain), buf_len(&plain)});
    } else if (status == 503) {
        request_error(request, RPC_OVERLOADED, (struct span){0});
    } else if (status == 413 && route_ops_of(request)->has_own_too_large) {
        request_error(request, RPC_TOO_LARGE, SPAN("null"));
    } else {
        evidence_show_head(ctx, head);
        request_status(request, status, (struct span){0});
        incident_hide(ctx);
    }
    buf_deinit(&plain);
}

static void start_on_route(struct request *request, const struct http_head *head, struct span body)
{
    if (UNLIKELY(request->route->compress != NULL))
        compress_note(&request->coding, request->client, request->route->compress, head);
    if (coded_body_is_ours(request->route, head, body))
        start_coded(request, head, body);
    else
        route_ops_of(request)->start(request, head, body);
}

void request_start(struct request *request, const struct http_head *head, struct span body)
{
    const struct client *client = request->client;
    struct ctx *ctx = client->ctx;
    request->class = account_class(head);
    request->bytes_in = (uint32_t)body.n;
    request_mark(request, head);
    find_peer(request, head);
    unsigned status = find_route(ctx, client_listener(client), head, &request->route);
    enum cross_site cross_site = judge_page(client->ctx, request->route, head, &request->page);
    account_begin(request);
    if (status == 0 && cross_site == CROSS_SITE_REFUSE) {
        log_cross_site(request, head);
        status = 403;
    }
    if (status != 0) {
        evidence_show_head(ctx, head);
        request_status(request, status, fields_of_status(status, request));
        incident_hide(ctx);
    } else if (!admits(request)) {
        evidence_show_head(ctx, head);
        refuse_address(request);
        incident_hide(ctx);
    } else if (request->route == NULL ||
               (route_ops_of(request)->answers_options && head->method == HTTP_OPTIONS)) {
        bool preflight = request->route != NULL && cross_site == CROSS_SITE_PREFLIGHT;
        struct reply reply = {
            .status = 204,
            .fields = preflight ? request->route->cors.preflight : allow_of(request),
        };
        request_reply(request, &reply);
    } else if (LIKELY(request->route->jwt == NULL) || pass_token(request, head, body)) {
        start_on_route(request, head, body);
    }
}

void request_start_again(struct request *request, const struct http_head *head)
{
    route_ops_of(request)->start(request, head, (struct span){0});
}

void request_message(struct request *request, struct span payload)
{
    request->bytes_in = (uint32_t)payload.n;
    request_mark(request, NULL);
    account_begin(request);
    route_ops_of(request)->start(request, NULL, payload);
}

void request_refuse(struct request *request, unsigned status, const struct http_head *head)
{
    const struct client *client = request->client;
    request->class = head == NULL ? METRIC_CLASS_OTHER : account_class(head);
    request_mark(request, head);
    if (head != NULL) {
        find_peer(request, head);
        unsigned of_head = find_route(client->ctx, client_listener(client), head, &request->route);
        if (judge_page(client->ctx, request->route, head, &request->page) == CROSS_SITE_REFUSE &&
            of_head == 0) {
            log_cross_site(request, head);
            of_head = 403;
        }
        if (of_head != 0)
            status = of_head;
    }
    if (status == 413 && request->route != NULL && route_ops_of(request)->has_own_too_large)
        request_error(request, RPC_TOO_LARGE, SPAN("null"));
    else
        request_status(request, status, fields_of_status(status, request));
}

void request_notify(
    struct ctx *ctx, const struct conf_route *route, struct call_spec *spec, uint32_t pool)
{
    spec->route = route;
    spec->pool = &ctx->pools[pool];
    spec->timeout = route->timeout;
    if (call_start(ctx, spec) < 0)
        log_error("no memory: workers are not told of a connection that came or went");
}

struct worker *request_asker(
    const struct ctx *ctx, const struct conf_route *route, struct span id, int *ret_pool)
{
    struct worker *found = NULL;
    for (uint32_t i = 0; i < ctx->conf->npools; i++) {
        const struct conf_pool *conf = &ctx->conf->pools[i];
        if (conf->realm_id != route->realm ||
            !conf_method_listed(conf->methods, conf->nmethods, SPAN("frontd.response")))
            continue;
        struct worker *worker = asker_find(&ctx->pools[i], id, found);
        if (worker != found)
            *ret_pool = (int)i;
        found = worker;
    }
    return found;
}

void request_call(struct request *request, struct call_spec *spec, uint32_t pool)
{
    struct client *client = request->client;
    spec->owner = request;
    spec->list = &request->calls;
    spec->route = request->route;
    spec->pool = &client->ctx->pools[pool];
    spec->flow = client->conn.id;
    spec->mark = request->mark;
    if (spec->timeout == 0)
        spec->timeout = request->route->timeout;
    spec->claim = (uint32_t)(FRAME_HEAD_SIZE + spec->meta.n + spec->body.n + spec->blob.n);
    if (!spec->notify)
        spec->expected = expected_of(client, spec->kind, spec->wide_kind, &spec->guessed);
    client->guessed |= spec->guessed;
    client->claimed += spec->claim + spec->expected;
    request->pending++;
    client->calls++;
    if (call_start(client->ctx, spec) < 0) {
        client->claimed -= spec->claim + spec->expected;
        if (spec->limit != 0)
            share_limit_remove(client->ctx->share, client->ctx->seat, (int)spec->limit - 1);
        struct outcome outcome = {.error = RPC_OVERLOADED, .notify = spec->notify};
        tell(request, NULL, &outcome);
    }
}

/* The token of a request that was parked is verified now. */
static void unpark(struct request *request, const struct http_head *head, struct span body)
{
    request->parked = parked_free(request->parked);
    if (pass_token(request, head, body))
        start_on_route(request, head, body);
}

static const struct requests_ops requests_ops = {
    .abandon = request_abandon_all,
    .go_on = go_on,
    .guess_again = guess_again,
    .awaited = awaited,
    .hold = held_for_all,
    .unpark = unpark,
};

void request_init(struct ctx *ctx, struct pool *pools)
{
    ctx->pools = pools;
    ctx->requests_ops = &requests_ops;
    ctx->call_ops = &call_ops;
}
