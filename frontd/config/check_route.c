#include "frontd/config/check_route.h"

#include <string.h>

#include "common/alloc.h"
#include "frontd/config/check_access.h"
#include "frontd/config/check_auth.h"
#include "frontd/config/check_coding.h"
#include "frontd/config/check_cors.h"
#include "frontd/config/check_logs.h"
#include "frontd/config/check_policy.h"
#include "frontd/config/url_path.h"
#include "frontd/config/value.h"

/* All pools of a route are of one realm, from which its connections are reached. */
static bool check_realm(struct checker *checker, const char *key, const struct conf_pool *pool,
    const struct conf_pool *first)
{
    if (pool->realm_id == first->realm_id)
        return true;
    checker_complain(checker, key,
        "pool '%s' is of %s%s, '%s' of %s%s: the pools of a route are of one realm", pool->name,
        pool->realm == NULL ? "no realm" : "realm ", pool->realm == NULL ? "" : pool->realm,
        first->name, first->realm == NULL ? "no realm" : "realm ",
        first->realm == NULL ? "" : first->realm);
    return false;
}

static void complain_of_pool(
    struct checker *checker, const char *key, const char *name, const struct conf *conf)
{
    const char *names[CONF_POOLS_MAX];
    char choices[200];
    for (uint32_t i = 0; i < conf->npools; i++)
        names[i] = conf->pools[i].name;
    checker_choices(names, conf->npools, choices, sizeof(choices));
    checker_complain(checker, key, "there is no pool '%s': it is %s", name, choices);
}

/* A connection is bound to one worker. */
static void check_bound(struct checker *checker, const char *key, const struct conf *conf,
    const struct conf_route *route)
{
    const struct conf_pool *last = &conf->pools[route->pools[route->npools - 1]];
    for (uint32_t i = 0; i + 1 < route->npools; i++) {
        const struct conf_pool *other = &conf->pools[route->pools[i]];
        if (last->on_worker_lost != CONF_LOST_UNNOTED && other->on_worker_lost != CONF_LOST_UNNOTED)
            checker_complain(checker, key,
                "pools '%s' and '%s' have on_worker_lost: a connection is bound to one worker",
                other->name, last->name);
    }
}

/* Returns false if it is none that the route may have. */
static bool add_pool(struct checker *checker, const char *key, const char *name,
    const struct conf *conf, struct conf_route *route)
{
    uint32_t index = 0;
    while (index < conf->npools && strcmp(conf->pools[index].name, name) != 0)
        index++;
    if (index == conf->npools) {
        complain_of_pool(checker, key, name, conf);
        return false;
    }
    route->pools[route->npools++] = index;
    if (!check_realm(checker, key, &conf->pools[index], &conf->pools[route->pools[0]]))
        return false;
    route->realm = conf->pools[index].realm_id;
    check_bound(checker, key, conf, route);
    return true;
}

static void check_canary(struct checker *checker, const char *parent,
    const struct conf_raw_canary *raw, const struct conf *conf, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.canary.pool", parent);
    for (uint32_t i = 0; i < route->npools; i++) {
        if (strcmp(conf->pools[route->pools[i]].name, raw->pool) == 0)
            checker_complain(checker, key, "'%s': the route has it for all clients", raw->pool);
    }
    if (!add_pool(checker, key, raw->pool, conf, route))
        return;
    route->canary = true;
    snprintf(key, sizeof(key), "%s.canary.percent", parent);
    route->canary_percent = (uint32_t)checker_number(checker, key, raw->percent, 0, 0, 100);
    snprintf(key, sizeof(key), "%s.canary.header", parent);
    if (raw->header == NULL)
        return;
    if (route->kind == CONF_STREAM)
        checker_complain(checker, key, "there are no request headers here");
    const char *wrong = conf_value_token(raw->header);
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, raw->header);
    route->canary_header = checker_copy_lower(checker, raw->header);
}

static void check_route_pools(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, const struct conf *conf, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    bool many = raw->pools_count > 0;
    if (many == (raw->pool != NULL)) {
        snprintf(key, sizeof(key), "%s.pool", parent);
        checker_complain(checker, key, "either pool or pools is needed here");
        return;
    }
    unsigned n = many ? raw->pools_count : 1;
    route->pools = checker_take(checker, mem_zalloc((n + 1) * sizeof(*route->pools)));
    for (unsigned i = 0; route->pools != NULL && i < n; i++) {
        snprintf(key, sizeof(key), many ? "%s.pools[%u]" : "%s.pool", parent, i);
        if (!add_pool(checker, key, many ? raw->pools[i] : raw->pool, conf, route))
            return;
    }
    if (route->pools != NULL && raw->canary != NULL)
        check_canary(checker, parent, raw->canary, conf, route);
}

static void check_meta(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    static const char *const names[] = {"peer", "deadline", "route", "tls", "traceparent"};
    char key[CHECKER_PATH_SIZE];
    for (unsigned i = 0; i < raw->meta_count; i++) {
        snprintf(key, sizeof(key), "%s.meta[%u]", parent, i);
        unsigned bit = 1U << checker_name(checker, key, raw->meta[i], names, ARRAY_LEN(names));
        bool traceparent = bit == CONF_META_TRACEPARENT;
        if (traceparent && route->kind == CONF_STREAM)
            checker_complain(checker, key, "traceparent: there are no request headers here");
        if (traceparent && route->kind == CONF_WEBSOCKET)
            checker_warn(checker, key, "traceparent has no effect on a route of kind websocket");
        route->meta |= bit;
    }
}

static void check_protocols(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    for (unsigned i = 0; i < raw->protocols_count && !checker->failed; i++) {
        const char *protocol = raw->protocols[i];
        snprintf(key, sizeof(key), "%s.protocols[%u]", parent, i);
        const char *wrong = conf_value_token(protocol);
        if (wrong != NULL)
            checker_complain(checker, key, "%s: '%s'", wrong, protocol);
        checker_once(checker, key, raw->protocols, i);
    }
    route->protocols = checker_copy_texts(checker, raw->protocols, raw->protocols_count, false);
    route->nprotocols = route->protocols == NULL ? 0 : raw->protocols_count;
}

/* Checks the keys of routes with persistent connections. */
static void check_stay(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    static const char *const messages[] = {"jsonrpc", "raw"};
    static const char *const connects[] = {"notify", "ask"};
    static const char *const slows[] = {"close", "drop"};
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.messages", parent);
    route->raw = checker_name(checker, key, raw->messages, messages, ARRAY_LEN(messages)) == 1;
    snprintf(key, sizeof(key), "%s.events", parent);
    route->events = checker_flag(checker, key, raw->events);
    snprintf(key, sizeof(key), "%s.connect", parent);
    route->connect_ask = checker_name(checker, key, raw->connect, connects, ARRAY_LEN(connects)) ==
                         1;
    if (raw->connect != NULL && !route->events)
        checker_complain(checker, key, "needs events: true");
    snprintf(key, sizeof(key), "%s.slow", parent);
    route->slow_drop = checker_name(checker, key, raw->slow, slows, ARRAY_LEN(slows)) == 1;
    snprintf(key, sizeof(key), "%s.responses", parent);
    route->responses = checker_flag(checker, key, raw->responses);
    if (route->responses && route->raw)
        checker_complain(checker, key, "needs messages: jsonrpc");
    snprintf(key, sizeof(key), "%s.ping", parent);
    checker_timeout(checker, key, raw->ping, 30 * 1000, &route->ping);
}

static void check_compression(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.compression", parent);
    route->compression = checker_flag(checker, key, raw->compression);
}

/* Shorter bodies than limits.body are not taken in parts, so there it would have no effect. */
static void check_stream_body(struct checker *checker, const char *key, const char *text,
    const struct conf *conf, struct conf_route *route)
{
    const char *wrong = text == NULL ? NULL : conf_value_memory(text, &route->stream_body);
    if (text == NULL)
        return;
    if (wrong != NULL)
        checker_complain(checker, key, "%s: '%s'", wrong, text);
    else if (route->stream_body <= conf->limits.body)
        checker_complain(
            checker, key, "must be more than limits.body, %u bytes", conf->limits.body);
}

/* Checks the keys that a route has wherever it stands. */
static void check_common(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, const struct conf *conf, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    snprintf(key, sizeof(key), "%s.timeout", parent);
    checker_timeout(checker, key, raw->timeout, 30 * 1000, &route->timeout);
    route->timeout_line = raw->timeout == NULL ? 0 : conf_lines_near(checker->lines, key);
    snprintf(key, sizeof(key), "%s.stream_body", parent);
    check_stream_body(checker, key, raw->stream_body, conf, route);
    snprintf(key, sizeof(key), "%s.stream_timeout", parent);
    checker_duration(checker, key, raw->stream_timeout, 60 * 1000, &route->stream_timeout);
    snprintf(key, sizeof(key), "%s.slow_log", parent);
    conf_check_slow(checker, key, raw->slow_log, conf->slow, &route->slow);
    snprintf(key, sizeof(key), "%s.progress", parent);
    route->progress = checker_flag(checker, key, raw->progress);
    check_route_pools(checker, parent, raw, conf, route);
    conf_check_policies(checker, parent, raw, route);
    check_meta(checker, parent, raw, route);
}

/* An error for each of the keys that stands there. */
static void refuse_keys(struct checker *checker, const char *parent, const char *const *keys,
    size_t nkeys, const char *why)
{
    for (size_t i = 0; i < nkeys; i++) {
        if (checker_has(checker, parent, keys[i])) {
            char key[CHECKER_PATH_SIZE];
            snprintf(key, sizeof(key), "%s.%s", parent, keys[i]);
            checker_complain(checker, key, "%s", why);
        }
    }
}

/* Warns where no pool takes a method that the front calls by itself. */
static void warn_of_method(struct checker *checker, const char *parent, const struct conf *conf,
    const struct conf_route *route, const char *method)
{
    const struct span name = {method, strlen(method)};
    for (uint32_t i = 0; i < route->npools; i++) {
        const struct conf_pool *pool = &conf->pools[route->pools[i]];
        if (conf_method_listed(pool->methods, pool->nmethods, name))
            return;
    }
    checker_warn(checker, parent, "no pool of it takes %s: see methods of the pools", method);
}

/* frontd.response goes to the worker that has asked, which may be of any pool of the realm. */
static void warn_of_responses(struct checker *checker, const char *parent, const struct conf *conf,
    const struct conf_route *route)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        const struct conf_pool *pool = &conf->pools[i];
        if (pool->realm_id == route->realm &&
            conf_method_listed(pool->methods, pool->nmethods, SPAN("frontd.response")))
            return;
    }
    warn_of_method(checker, parent, conf, route, "frontd.response");
}

static void warn_of_methods(struct checker *checker, const char *parent, const struct conf *conf,
    const struct conf_route *route)
{
    if (route->kind == CONF_HTTP)
        warn_of_method(checker, parent, conf, route, "http.request");
    if (route->raw)
        warn_of_method(checker, parent, conf, route, "frontd.message");
    if (route->events) {
        warn_of_method(checker, parent, conf, route, "frontd.connect");
        warn_of_method(checker, parent, conf, route, "frontd.disconnect");
    }
    if (route->responses)
        warn_of_responses(checker, parent, conf, route);
}

/* Names that no request header can have are errors: they would never be found. */
static void check_headers(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    char key[CHECKER_PATH_SIZE];
    for (unsigned i = 0; i < raw->headers_count; i++) {
        snprintf(key, sizeof(key), "%s.headers[%u]", parent, i);
        const char *wrong = conf_value_token(raw->headers[i]);
        if (wrong != NULL)
            checker_complain(checker, key, "%s: '%s'", wrong, raw->headers[i]);
    }
    route->headers = checker_copy_texts(checker, raw->headers, raw->headers_count, true);
    route->nheaders = route->headers == NULL ? 0 : raw->headers_count;
}

/* Checks the path, and makes its normal form, which paths of requests are compared with. */
static void check_path(
    struct checker *checker, const char *key, const char *path, struct conf_route *route)
{
    route->path = checker_copy(checker, path);
    route->path_len = strlen(path);
    route->prefix = checker_copy(checker, path);
    if (checker->failed)
        return;
    if (path_normalise((struct span){path, route->path_len}, route->prefix, &route->prefix_len) < 0)
        checker_complain(checker, key,
            "'%s': '%%' is followed by two hexadecimal digits, not 00, and '..' stays below '/'",
            path);
    else
        route->prefix[route->prefix_len] = '\0';
}

/* A name that ends in a dot is the same name (RFC 1034 section 3.1), so the dot is left out. */
static void check_host(
    struct checker *checker, const char *key, const char *host, struct conf_route *route)
{
    if (host == NULL)
        return;
    if (host[0] == '\0' || strcmp(host, ".") == 0 ||
        (host[0] != '[' && strpbrk(host, ":/ ") != NULL))
        checker_complain(checker, key, "'%s': a host, without scheme or port", host);
    route->host = checker_copy_lower(checker, host);
    size_t n = route->host == NULL ? 0 : strlen(route->host);
    if (n > 1 && route->host[n - 1] == '.')
        route->host[n - 1] = '\0';
}

static void check_route(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, const struct conf *conf, struct conf_route *route)
{
    static const char *const kinds[] = {"jsonrpc", "http", "websocket"};
    static const char *const stay_keys[] = {
        "messages", "events", "connect", "ping", "slow", "responses", "protocols", "compression"};
    static const char *const stream_keys[] = {"stream_body", "stream_timeout"};
    char key[CHECKER_PATH_SIZE];
    route->line = conf_lines_near(checker->lines, parent);
    snprintf(key, sizeof(key), "%s.path", parent);
    if (raw->path[0] != '/' || strpbrk(raw->path, "?# ") != NULL)
        checker_complain(checker, key, "'%s': a path begins with '/' and has no query", raw->path);
    if (strpbrk(raw->path, "*{}") != NULL)
        checker_warn(checker, key,
            "'%s': a path takes all that is below it, and '*', '{' and '}' stand for themselves",
            raw->path);
    check_path(checker, key, raw->path, route);
    snprintf(key, sizeof(key), "%s.host", parent);
    check_host(checker, key, raw->host, route);
    if (raw->host != NULL && strchr(raw->host, '*') != NULL)
        checker_warn(
            checker, key, "'%s': a host is compared as a whole, '*' stands for itself", raw->host);
    snprintf(key, sizeof(key), "%s.kind", parent);
    route->kind = (enum conf_kind)checker_name(checker, key, raw->kind, kinds, ARRAY_LEN(kinds));
    check_common(checker, parent, raw, conf, route);
    check_headers(checker, parent, raw, route);
    conf_check_cors(checker, parent, raw, route);
    conf_check_access(checker, parent, &raw->access, &route->access);
    conf_check_coding(checker, parent, raw, route);
    if (route->kind == CONF_WEBSOCKET) {
        check_stay(checker, parent, raw, route);
        check_protocols(checker, parent, raw, route);
        check_compression(checker, parent, raw, route);
    } else {
        refuse_keys(checker, parent, stay_keys, ARRAY_LEN(stay_keys), "only for kind: websocket");
    }
    if (route->kind == CONF_HTTP && raw->progress != NULL)
        refuse_keys(checker, parent, (const char *const[]){"progress"}, 1,
            "only for kind: jsonrpc and websocket");
    if (route->kind != CONF_HTTP)
        refuse_keys(checker, parent, stream_keys, ARRAY_LEN(stream_keys), "only for kind: http");
    if (!checker->failed)
        warn_of_methods(checker, parent, conf, route);
}

/*
 * Routes with a host first, then the longest path first: so the first route that fits is the right
 * one.
 */
static int compare_routes(const void *left, const void *right)
{
    const struct conf_route *a = left;
    const struct conf_route *b = right;
    if ((a->host == NULL) != (b->host == NULL))
        return a->host == NULL ? 1 : -1;
    if (a->prefix_len != b->prefix_len)
        return a->prefix_len < b->prefix_len ? 1 : -1;
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Whether clients can speak HTTP/2: of `tls` that is said by ALPN. */
static bool has_http2(const struct conf_listener *listener)
{
    const struct conf_tls *tls = listener->tls;
    for (uint32_t i = 0; tls != NULL && i < tls->nalpn; i++) {
        if (same_text(tls->alpn[i], "h2"))
            return true;
    }
    return tls == NULL && listener->h2c;
}

static void check_http2(struct checker *checker, unsigned index,
    const struct conf_raw_listener *raw, struct conf_listener *listener)
{
    char key[64];
    snprintf(key, sizeof(key), "listeners[%u].h2c", index);
    listener->h2c = checker_flag(checker, key, raw->h2c);
    snprintf(key, sizeof(key), "listeners[%u].h2_websocket", index);
    listener->h2_websocket = checker_flag(checker, key, raw->h2_websocket);
    if (listener->h2_websocket && !has_http2(listener) && !checker->failed)
        checker_warn(
            checker, key, "no effect where clients cannot speak HTTP/2 (h2c, or tls.alpn)");
}

static void check_http(struct checker *checker, unsigned index, const struct conf_raw_listener *raw,
    struct conf *conf, struct conf_listener *listener)
{
    static const char *const stream_keys[] = {"pool", "pools", "timeout", "meta", "messages",
        "events", "connect", "ping", "slow", "responses", "slow_log", "allow_methods",
        "deny_methods", "idempotent", "calls", "rate", "methods", "canary", "progress"};
    static const char *const paths[] = {"any", "strict"};
    char parent[64];
    snprintf(parent, sizeof(parent), "listeners[%u].routes", index);
    char of_listener[64];
    snprintf(of_listener, sizeof(of_listener), "listeners[%u].paths", index);
    listener->paths_strict = checker_name(
                                 checker, of_listener, raw->paths, paths, ARRAY_LEN(paths)) == 1;
    check_http2(checker, index, raw, listener);
    snprintf(of_listener, sizeof(of_listener), "listeners[%u]", index);
    refuse_keys(checker, of_listener, stream_keys, ARRAY_LEN(stream_keys),
        "only for protocol: frame and line");
    const struct conf_jwt *jwt = conf_check_auth(checker, of_listener, raw->auth, NULL, conf);
    if (raw->routes_count == 0) {
        checker_complain(checker, parent, "a listener needs routes");
        return;
    }
    listener->routes = checker_take(
        checker, mem_zalloc(raw->routes_count * sizeof(*listener->routes)));
    if (listener->routes == NULL)
        return;
    listener->nroutes = raw->routes_count;
    for (unsigned i = 0; i < raw->routes_count; i++) {
        snprintf(parent, sizeof(parent), "listeners[%u].routes[%u]", index, i);
        check_route(checker, parent, &raw->routes[i], conf, &listener->routes[i]);
        listener->routes[i].jwt = conf_check_auth(checker, parent, raw->routes[i].auth, jwt, conf);
        conf_check_cookie(checker, parent, &listener->routes[i]);
        for (unsigned j = 0; j < i && !checker->failed; j++) {
            if (same_text(listener->routes[j].prefix, listener->routes[i].prefix) &&
                same_text(listener->routes[j].host, listener->routes[i].host))
                checker_complain(checker, parent, "'%s' is there twice for the same host",
                    listener->routes[i].path);
        }
    }
    qsort(listener->routes, listener->nroutes, sizeof(*listener->routes), compare_routes);
}

static void check_stream(struct checker *checker, unsigned index,
    const struct conf_raw_listener *raw, const struct conf *conf, struct conf_listener *listener)
{
    static const char *const http_keys[] = {"routes", "paths", "h2c", "h2_websocket", "auth"};
    char parent[64];
    snprintf(parent, sizeof(parent), "listeners[%u]", index);
    refuse_keys(checker, parent, http_keys, ARRAY_LEN(http_keys), "only for protocol: http");
    listener->routes = checker_take(checker, mem_zalloc(sizeof(*listener->routes)));
    if (listener->routes == NULL)
        return;
    listener->nroutes = 1;
    struct conf_route *route = &listener->routes[0];
    route->kind = CONF_STREAM;
    route->path = checker_copy(checker, "/");
    route->path_len = 1;
    check_common(checker, parent, &raw->stream, conf, route);
    check_stay(checker, parent, &raw->stream, route);
    if (!checker->failed)
        warn_of_methods(checker, parent, conf, route);
}

void conf_check_routes(struct checker *checker, unsigned index, const struct conf_raw_listener *raw,
    struct conf *conf, struct conf_listener *listener)
{
    if (listener->protocol == CONF_PROTOCOL_HTTP)
        check_http(checker, index, raw, conf, listener);
    else
        check_stream(checker, index, raw, conf, listener);
}
