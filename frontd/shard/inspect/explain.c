/*
 * `explain`: which listener, route, pool and workers would take a request, by which line of the
 * config. The request is written as one of HTTP/1, read as such, and judged by the function that
 * judges requests of clients; nothing of it goes to a worker.
 */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/http1.h"
#include "frontd/config/describe.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/shard/inspect/params.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/request/router.h"
#include "frontd/shard/upstream/worker.h"
#include "proto/envelope.h"

struct explain {
    char *method; /* of HTTP */
    char *path;
    char *host;
    char *origin;
    char *listener; /* NULL: all */
    char *rpc;      /* a JSON-RPC method; NULL: none */
    struct buf text;
    uint32_t next; /* listener to be explained */
};

static const char *const kinds[CONF_KINDS] = {
    [CONF_JSONRPC] = "jsonrpc",
    [CONF_HTTP] = "http",
    [CONF_WEBSOCKET] = "websocket",
    [CONF_STREAM] = "stream",
};

static const char *const hashes[] = {
    [CONF_HASH_NONE] = "least_loaded",
    [CONF_HASH_PEER] = "hash: peer",
    [CONF_HASH_CONN] = "hash: conn",
    [CONF_HASH_HEADER] = "hash: header",
    [CONF_HASH_PARAM] = "hash: param",
};

/* ---- Workers ------------------------------------------------------------------------------- */

static void put_worker(struct json_writer *out, const struct worker *worker, struct span method)
{
    const struct share *share = worker->pool->ctx->share;
    json_begin(out, NULL, '{');
    json_add_text(out, "worker", worker->text);
    json_add_text(out, "state",
        !worker->ready           ? "not connected"
        : !worker_usable(worker) ? "not usable"
                                 : "ready");
    json_add_flag(out, "takes", worker_takes(worker, method));
    if (worker->share >= 0)
        json_add_number(out, "calls", share_worker_load(share, worker->share));
    if (worker->concurrency > 0)
        json_add_number(out, "concurrency", worker->concurrency);
    if (!worker->ready && worker->trouble[0] != '\0')
        json_add_text(out, "trouble", worker->trouble);
    json_end(out, '}');
}

/* The pattern of the pool's `methods` by which it takes the method; NULL: it does not. */
static const char *pattern_of(const struct conf_pool *pool, struct span method)
{
    const char *best = NULL;
    unsigned best_fit = 0;
    for (uint32_t i = 0; i < pool->nmethods; i++) {
        unsigned fit = conf_method_fit(pool->methods[i], method);
        if (fit <= best_fit)
            continue;
        best_fit = fit;
        best = pool->methods[i];
    }
    return best;
}

static void put_pool(
    struct json_writer *out, const struct ctx *ctx, uint32_t index, struct span method)
{
    enum { WORKERS_MAX = 100 /* that are shown */ };
    const struct conf_pool *conf = &ctx->conf->pools[index];
    const struct pool *pool = &ctx->pools[index];
    unsigned n = 0;
    json_begin(out, "pool", '{');
    json_add_text(out, "name", conf->name);
    json_add_number(out, "line", conf->line);
    json_add_text(out, "pattern", pattern_of(conf, method));
    if (conf->realm != NULL)
        json_add_text(out, "realm", conf->realm);
    json_add_text(out, "policy", hashes[conf->hash]);
    if (conf->bounded)
        json_add_flag(out, "bounded", true);
    if (conf->hash_name != NULL)
        json_add_text(out, "hash_name", conf->hash_name);
    json_begin(out, "workers", '[');
    list_for_each (node, &pool->workers) {
        if (n++ < WORKERS_MAX)
            put_worker(out, container_of(node, struct worker, node), method);
    }
    json_end(out, ']');
    json_add_number(out, "nworkers", n);
    json_end(out, '}');
}

/* The pools of the route, each with its patterns, where it is not known which method is called. */
static void put_pools(
    struct json_writer *out, const struct conf *conf, const struct conf_route *route)
{
    enum { PATTERNS_MAX = 50 };
    json_begin(out, "pools", '[');
    for (uint32_t i = 0; i < route->npools; i++) {
        const struct conf_pool *pool = &conf->pools[route->pools[i]];
        json_begin(out, NULL, '{');
        json_add_text(out, "name", pool->name);
        json_add_number(out, "line", pool->line);
        json_begin(out, "methods", '[');
        for (uint32_t k = 0; k < MIN(pool->nmethods, (uint32_t)PATTERNS_MAX); k++)
            json_add_text(out, NULL, pool->methods[k]);
        json_end(out, ']');
        json_end(out, '}');
    }
    json_end(out, ']');
}

/* ---- Listeners and routes ------------------------------------------------------------------- */

/* What the method of the call that a request becomes is; n == 0: that is up to its body. */
static struct span method_of(const struct explain *explain, const struct conf_route *route)
{
    if (route->kind == CONF_HTTP)
        return SPAN("http.request");
    if (route->raw)
        return SPAN("frontd.message");
    return explain->rpc == NULL ? (struct span){0}
                                : (struct span){explain->rpc, strlen(explain->rpc)};
}

/* By what policies are chosen: on routes of kind http it is HTTP's own method. */
static struct span policy_method(
    const struct explain *explain, const struct conf_route *route, struct span method)
{
    if (route->kind != CONF_HTTP)
        return method;
    const char *text = explain->method == NULL ? "POST" : explain->method;
    return (struct span){text, strlen(text)};
}

/* What applies to calls of the method, line by line. */
static void put_applying(struct json_writer *out, const struct conf *conf,
    const struct conf_listener *listener, const struct conf_route *route, struct span method)
{
    struct buf text = {0};
    json_begin(out, "applies", '[');
    if (conf_describe(&text, conf, listener, route, method) == 0) {
        const char *p = buf_data(&text), *end = p + buf_len(&text);
        for (const char *line_end; p < end; p = line_end + 1) {
            line_end = memchr(p, '\n', (size_t)(end - p));
            json_add_span(out, NULL, (struct span){p, (size_t)(line_end - p)});
        }
    }
    json_end(out, ']');
    buf_deinit(&text);
}

static void put_route(struct json_writer *out, const struct ctx *ctx, const struct explain *explain,
    const struct conf_listener *listener, const struct conf_route *route)
{
    json_begin(out, "route", '{');
    if (route->path != NULL)
        json_add_text(out, "path", route->path);
    if (route->host != NULL)
        json_add_text(out, "host", route->host);
    json_add_text(out, "kind", kinds[route->kind]);
    json_add_number(out, "line", route->line);
    json_add_number(out, "timeout_ms", route->timeout);
    json_end(out, '}');
    struct span method = method_of(explain, route);
    put_applying(out, ctx->conf, listener, route, policy_method(explain, route, method));
    if (method.n == 0) {
        put_pools(out, ctx->conf, route);
        return;
    }
    json_add_span(out, "rpc", method);
    bool reserved = method.p == explain->rpc && envelope_is_reserved(method);
    int pool = reserved ? -1 : router_pool(ctx->conf, route, method);
    if (pool < 0)
        json_add_text(out, "refused",
            reserved ? "-32601: no client may call a method of this name"
                     : "-32601: no pool of the route takes this method");
    else
        put_pool(out, ctx, (uint32_t)pool, method);
}

/* Writes the request and reads it. Returns 0, or the status of a request that is wrong. */
static unsigned read_head(struct explain *explain, const struct ctx *ctx, struct http1_head *head)
{
    const struct http1_limits limits = {
        .head_bytes = ctx->conf->limits.header, .fields = ctx->conf->limits.headers};
    size_t used;
    buf_deinit(&explain->text);
    int r = buf_printf(&explain->text, "%s %s HTTP/1.1\r\nHost: %s\r\n",
        explain->method == NULL ? "POST" : explain->method,
        explain->path == NULL ? "/" : explain->path, explain->host == NULL ? "" : explain->host);
    if (r == 0 && explain->origin != NULL)
        r = buf_printf(&explain->text, "Origin: %s\r\n", explain->origin);
    if (r == 0) /* what a client of JSON-RPC sends, so that it is not taken for a page's form */
        r = buf_printf(&explain->text, "Content-Type: application/json\r\n\r\n");
    if (r < 0)
        return 503;
    r = http1_head_parse(buf_data(&explain->text), buf_len(&explain->text), &limits, head, &used);
    return r == 0 ? 0 : r == HTTP1_E_MORE ? 400 : (unsigned)r;
}

static void put_http(struct json_writer *out, const struct ctx *ctx, struct explain *explain,
    const struct conf_listener *listener)
{
    static struct http1_head head; /* scratch */
    const struct conf_route *route = NULL;
    char refused[64];
    unsigned status = read_head(explain, ctx, &head);
    if (status == 0)
        status = request_judge(ctx, listener, &head.http, &route);
    if (status != 0) {
        snprintf(refused, sizeof(refused), "%u %s", status, http1_reason(status));
        json_add_text(out, "refused", refused);
    }
    if (route != NULL)
        put_route(out, ctx, explain, listener, route);
}

static void put_listener(struct json_writer *out, const struct ctx *ctx, struct explain *explain,
    const struct conf_listener *listener)
{
    static const char *const protocols[] = {"http", "frame", "line"};
    json_begin(out, NULL, '{');
    json_add_text(out, "listener", listener->name);
    json_add_number(out, "line", listener->line);
    json_add_text(out, "address", listener->text);
    json_add_text(out, "protocol", protocols[listener->protocol]);
    if (listener->protocol == CONF_PROTOCOL_HTTP)
        put_http(out, ctx, explain, listener);
    else
        put_route(out, ctx, explain, listener, &listener->routes[0]);
    json_end(out, '}');
}

/* Whether the question is about this listener: one without a path is none for HTTP alone. */
static bool is_meant(const struct explain *explain, const struct conf_listener *listener)
{
    if (explain->listener != NULL)
        return strcmp(explain->listener, listener->name) == 0;
    return listener->protocol == CONF_PROTOCOL_HTTP || explain->rpc != NULL;
}

static enum question_step step(struct question *question)
{
    struct explain *explain = question_own(question);
    const struct conf *conf = question->ctx->conf;
    struct json_writer *out = &question->answer;
    if (explain->next < conf->nlisteners && buf_len(&out->out) < QUESTION_TEXT_MAX) {
        const struct conf_listener *listener = &conf->listeners[explain->next++];
        if (is_meant(explain, listener))
            put_listener(out, question->ctx, explain, listener);
        return QUESTION_MORE;
    }
    json_end(out, ']');
    json_end(out, '}');
    return QUESTION_ANSWERED;
}

/* A word of a request line or a field: what would end it earlier is no part of it. */
static bool is_one_line(const char *text)
{
    return text == NULL || strpbrk(text, " \r\n") == NULL;
}

static int begin(struct question *question, struct span params)
{
    struct explain *explain = question_own(question);
    const struct {
        const char *key;
        char **ret;
    } texts[] = {
        {"method", &explain->method},
        {"path", &explain->path},
        {"host", &explain->host},
        {"origin", &explain->origin},
        {"listener", &explain->listener},
        {"rpc", &explain->rpc},
    };
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
        r = params_text(question, params, texts[i].key, texts[i].ret);
    if (r < 0)
        return r;
    for (size_t i = 0; i < 4; i++) {
        if (!is_one_line(*texts[i].ret)) {
            question->problem = "a method, a path, a host and an origin have no spaces";
            return -EINVAL;
        }
    }
    json_begin(&question->answer, NULL, '{');
    json_begin(&question->answer, "listeners", '[');
    return 0;
}

static void end(struct question *question)
{
    struct explain *explain = question_own(question);
    mem_free(explain->method);
    mem_free(explain->path);
    mem_free(explain->host);
    mem_free(explain->origin);
    mem_free(explain->listener);
    mem_free(explain->rpc);
    buf_deinit(&explain->text);
}

const struct question_ops explain_question = {
    .size = sizeof(struct explain),
    .begin = begin,
    .step = step,
    .end = end,
};
