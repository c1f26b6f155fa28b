#include "frontd/conf_check.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "frontd/codec/http1_head.h"
#include "frontd/conf_value.h"

/* While a config is checked: the first complaint wins. */
struct checker {
    const char *file;
    const struct conf_lines *lines;
    char *error;
    size_t error_size;
    bool failed;
};

/* The key is the path of a value; where it does not stand in the text, its parent names the line.
 */
static void complain(struct checker *checker, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(struct checker *checker, const char *key, const char *format, ...)
{
    if (checker->failed)
        return;
    checker->failed = true;
    int n = snprintf(checker->error, checker->error_size, "%s:%u: %s: ", checker->file,
        conf_lines_near(checker->lines, key), key);
    if (n < 0 || (size_t)n >= checker->error_size)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(checker->error + n, checker->error_size - (size_t)n, format, args);
    va_end(args);
}

static void *take(struct checker *checker, void *memory)
{
    if (memory == NULL)
        complain(checker, "config", "no memory");
    return memory;
}

static char *copy(struct checker *checker, const char *text)
{
    return text == NULL ? NULL : take(checker, mem_strdup(text));
}

static char *copy_lower(struct checker *checker, const char *text)
{
    char *lower = copy(checker, text);
    for (char *p = lower; p != NULL && *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return lower;
}

static char **copy_texts(struct checker *checker, char **texts, unsigned n, bool lower)
{
    if (n == 0)
        return NULL;
    char **copies = take(checker, mem_zalloc(n * sizeof(*copies)));
    for (unsigned i = 0; copies != NULL && i < n; i++)
        copies[i] = lower ? copy_lower(checker, texts[i]) : copy(checker, texts[i]);
    return copies;
}

static void read_duration(
    struct checker *checker, const char *key, const char *text, uint64_t fallback, uint64_t *ret_ms)
{
    *ret_ms = fallback;
    const char *wrong = text == NULL ? NULL : conf_value_duration(text, ret_ms);
    if (wrong != NULL)
        complain(checker, key, "%s: '%s'", wrong, text);
}

/* A time that must pass: 0 would mean that nothing ever works. */
static void read_timeout(
    struct checker *checker, const char *key, const char *text, uint64_t fallback, uint64_t *ret_ms)
{
    read_duration(checker, key, text, fallback, ret_ms);
    if (*ret_ms == 0)
        complain(checker, key, "must be more than 0");
}

static void read_size(struct checker *checker, const char *key, const char *text, uint32_t fallback,
    uint32_t min, uint32_t *ret_size)
{
    *ret_size = fallback;
    const char *wrong = text == NULL ? NULL : conf_value_size(text, ret_size);
    if (wrong != NULL)
        complain(checker, key, "%s: '%s'", wrong, text);
    else if (*ret_size < min)
        complain(checker, key, "must be at least %u bytes", min);
}

static uint64_t read_number(struct checker *checker, const char *key, const char *text,
    uint64_t fallback, uint64_t min, uint64_t max)
{
    uint64_t value = fallback;
    const char *wrong = text == NULL ? NULL : conf_value_number(text, min, max, &value);
    if (wrong != NULL)
        complain(checker, key, "%s: '%s'", wrong, text);
    return value;
}

/* One of a list of names; returns its index. */
static int read_name(struct checker *checker, const char *key, const char *text,
    const char *const *names, int nnames)
{
    for (int i = 0; i < nnames; i++) {
        if (strcmp(text, names[i]) == 0)
            return i;
    }
    complain(checker, key, "'%s' is not known here", text);
    return 0;
}

/* Keys that libcyaml lets pass since they are part of the contract. */
static void refuse_later_keys(struct checker *checker)
{
    static const char *const top[] = {"admin"};
    static const char *const listener[] = {
        "tls", "pool", "timeout", "meta", "events", "ping", "connect", "slow", "messages"};
    static const char *const route[] = {
        "messages", "events", "ping", "connect", "slow", "origins", "protocols"};
    static const char *const pool[] = {"command", "instances", "restart_delay"};
    static const struct {
        const char *scope; /* with '#' for an index */
        const char *const *keys;
        size_t nkeys;
    } scopes[] = {
        {"", top, ARRAY_LEN(top)},
        {"listeners[#].", listener, ARRAY_LEN(listener)},
        {"listeners[#].routes[#].", route, ARRAY_LEN(route)},
        {"pools[#].", pool, ARRAY_LEN(pool)},
    };
    for (size_t i = 0; i < checker->lines->count; i++) {
        const char *path = checker->lines->lines[i].path;
        for (size_t s = 0; s < ARRAY_LEN(scopes); s++) {
            const char *p = path;
            const char *scope = scopes[s].scope;
            while (*scope != '\0' && *p != '\0') {
                if (*scope == '#') {
                    p += strspn(p, "0123456789");
                    scope++;
                } else if (*scope++ != *p++) {
                    break;
                }
            }
            if (*scope != '\0' || (p > path && p[-1] != '.'))
                continue;
            for (size_t k = 0; k < scopes[s].nkeys; k++) {
                if (strcmp(p, scopes[s].keys[k]) == 0)
                    complain(checker, path, "not supported yet");
            }
        }
    }
}

static void check_limits(
    struct checker *checker, const struct conf_raw_limits *raw, struct conf_limits *limits)
{
    limits->connections = read_number(
        checker, "limits.connections", raw->connections, 1000000, 1, 1000000000);
    limits->connections_per_peer = read_number(
        checker, "limits.connections_per_peer", raw->connections_per_peer, 0, 0, 1000000000);
    read_size(checker, "limits.header", raw->header, 16 * 1024, 128, &limits->header);
    limits->headers = (uint32_t)read_number(
        checker, "limits.headers", raw->headers, 100, 1, HTTP1_FIELDS_MAX);
    read_size(checker, "limits.body", raw->body, 1024 * 1024, 1, &limits->body);
    limits->batch = (uint32_t)read_number(
        checker, "limits.batch", raw->batch, 1000, 1, CONF_BATCH_MAX);
    read_size(
        checker, "limits.write_buffer", raw->write_buffer, 1024 * 1024, 1, &limits->write_buffer);
    limits->calls_per_connection = (uint32_t)read_number(
        checker, "limits.calls_per_connection", raw->calls_per_connection, 64, 1, 65536);
    read_timeout(
        checker, "limits.header_timeout", raw->header_timeout, 10 * 1000, &limits->header_timeout);
    read_timeout(
        checker, "limits.body_timeout", raw->body_timeout, 30 * 1000, &limits->body_timeout);
    read_timeout(checker, "limits.idle_timeout", raw->idle_timeout, (uint64_t)3600 * 1000,
        &limits->idle_timeout);
}

static void check_patterns(
    struct checker *checker, const char *parent, const char *key, char **patterns, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const char *star = strchr(patterns[i], '*');
        if (patterns[i][0] == '\0' || (star != NULL && star[1] != '\0')) {
            char path[128];
            snprintf(path, sizeof(path), "%s.%s[%u]", parent, key, i);
            complain(checker, path, "'%s': a method, or the start of one and '*' at its end",
                patterns[i]);
        }
    }
}

static void check_worker(
    struct checker *checker, const char *key, const char *text, struct conf_worker *worker)
{
    worker->text = copy(checker, text);
    if (strncmp(text, "tcp://", 6) == 0) {
        const char *wrong = strncmp(text + 6, "unix:", 5) == 0
                                ? "not host:port"
                                : conf_value_address(text + 6, &worker->address);
        if (wrong != NULL)
            complain(checker, key, "'%s': %s", text, wrong);
        return;
    }
    if (strncmp(text, "unix:/", 6) != 0) {
        complain(checker, key, "'%s': neither unix:/PATH nor tcp://HOST:PORT", text);
        return;
    }
    worker->pattern = copy(checker, text + 5);
    const char *slash = strrchr(text, '/');
    if (strcspn(text, "*?[") < (size_t)(slash - text))
        complain(checker, key, "'%s': only the last part of the path may have wildcards", text);
    if (slash[1] == '\0')
        complain(checker, key, "'%s': ends in a folder", text);
}

static void check_hash(struct checker *checker, const char *parent, const struct conf_raw_pool *raw,
    struct conf_pool *pool)
{
    static const char *const balances[] = {"least", "hash"};
    char key[96];
    snprintf(key, sizeof(key), "%s.balance", parent);
    bool hash = raw->balance != NULL && read_name(checker, key, raw->balance, balances, 2) == 1;
    snprintf(key, sizeof(key), "%s.hash", parent);
    if (hash && raw->hash == NULL)
        complain(checker, key, "balance: hash needs it");
    if (raw->hash == NULL)
        return;
    enum conf_hash kind = CONF_HASH_NONE;
    if (strcmp(raw->hash, "peer") == 0)
        kind = CONF_HASH_PEER;
    else if (strcmp(raw->hash, "conn") == 0)
        kind = CONF_HASH_CONN;
    else if (strncmp(raw->hash, "header:", 7) == 0 && raw->hash[7] != '\0')
        kind = CONF_HASH_HEADER;
    else if (strncmp(raw->hash, "param:", 6) == 0 && raw->hash[6] != '\0')
        kind = CONF_HASH_PARAM;
    else
        complain(checker, key, "'%s': peer, conn, header:NAME or param:NAME", raw->hash);
    if (!hash)
        return;
    pool->hash = kind;
    if (kind == CONF_HASH_HEADER)
        pool->hash_name = copy_lower(checker, raw->hash + 7);
    if (kind == CONF_HASH_PARAM)
        pool->hash_name = copy(checker, raw->hash + 6);
}

static void check_pool(
    struct checker *checker, const struct conf_raw *all, unsigned index, struct conf_pool *pool)
{
    const struct conf_raw_pool *raw = &all->pools[index];
    char parent[64];
    char key[96];
    snprintf(parent, sizeof(parent), "pools[%u]", index);
    snprintf(key, sizeof(key), "%s.name", parent);
    pool->name = copy(checker, raw->name);
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(all->pools[i].name, raw->name) == 0)
            complain(checker, key, "'%s' is there twice", raw->name);
    }
    snprintf(key, sizeof(key), "%s.workers", parent);
    if (raw->workers_count == 0) {
        complain(checker, key, "a pool needs workers");
        return;
    }
    pool->workers = take(checker, mem_zalloc(raw->workers_count * sizeof(*pool->workers)));
    if (pool->workers == NULL)
        return;
    pool->nworkers = raw->workers_count;
    for (unsigned i = 0; i < raw->workers_count; i++) {
        snprintf(key, sizeof(key), "%s.workers[%u]", parent, i);
        check_worker(checker, key, raw->workers[i], &pool->workers[i]);
    }
    snprintf(key, sizeof(key), "%s.queue", parent);
    pool->queue = (uint32_t)read_number(checker, key, raw->queue, 10000, 0, 10000000);
    snprintf(key, sizeof(key), "%s.wait_for_worker", parent);
    read_duration(checker, key, raw->wait_for_worker, 5000, &pool->wait_for_worker);
    check_hash(checker, parent, raw, pool);
    check_patterns(checker, parent, "idempotent", raw->idempotent, raw->idempotent_count);
    check_patterns(checker, parent, "methods", raw->methods, raw->methods_count);
    pool->idempotent = copy_texts(checker, raw->idempotent, raw->idempotent_count, false);
    pool->nidempotent = pool->idempotent == NULL ? 0 : raw->idempotent_count;
    static char star[] = "*";
    static char *every[] = {star};
    unsigned nmethods = raw->methods_count;
    pool->methods = copy_texts(
        checker, nmethods == 0 ? every : raw->methods, nmethods == 0 ? 1 : nmethods, false);
    pool->nmethods = pool->methods == NULL ? 0 : MAX(nmethods, 1U);
}

static void check_route_pools(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, const struct conf *conf, struct conf_route *route)
{
    char key[128];
    bool many = raw->pools_count > 0;
    if (many == (raw->pool != NULL)) {
        snprintf(key, sizeof(key), "%s.pool", parent);
        complain(checker, key, "a route needs either pool or pools");
        return;
    }
    unsigned n = many ? raw->pools_count : 1;
    route->pools = take(checker, mem_zalloc(n * sizeof(*route->pools)));
    for (unsigned i = 0; route->pools != NULL && i < n; i++) {
        const char *name = many ? raw->pools[i] : raw->pool;
        uint32_t index = 0;
        while (index < conf->npools && strcmp(conf->pools[index].name, name) != 0)
            index++;
        if (index == conf->npools) {
            snprintf(key, sizeof(key), many ? "%s.pools[%u]" : "%s.pool", parent, i);
            complain(checker, key, "there is no pool '%s'", name);
            return;
        }
        route->pools[route->npools++] = index;
    }
}

static void check_meta(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route)
{
    static const char *const names[] = {"peer", "deadline", "route", "tls", "traceparent"};
    char key[128];
    for (unsigned i = 0; i < raw->meta_count; i++) {
        snprintf(key, sizeof(key), "%s.meta[%u]", parent, i);
        int index = read_name(checker, key, raw->meta[i], names, ARRAY_LEN(names));
        if (index == 3)
            complain(checker, key, "tls: not supported yet");
        else if (index == 4)
            route->meta |= CONF_META_TRACEPARENT;
        else
            route->meta |= 1U << index;
    }
    route->headers = copy_texts(checker, raw->headers, raw->headers_count, true);
    route->nheaders = route->headers == NULL ? 0 : raw->headers_count;
}

static void check_route(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, const struct conf *conf, struct conf_route *route)
{
    static const char *const kinds[] = {"jsonrpc", "http", "websocket"};
    char key[128];
    snprintf(key, sizeof(key), "%s.path", parent);
    if (raw->path[0] != '/' || strpbrk(raw->path, "?# ") != NULL)
        complain(checker, key, "'%s': a path begins with '/' and has no query", raw->path);
    route->path = copy(checker, raw->path);
    route->path_len = strlen(raw->path);
    route->host = copy_lower(checker, raw->host);
    snprintf(key, sizeof(key), "%s.kind", parent);
    int kind = read_name(checker, key, raw->kind, kinds, ARRAY_LEN(kinds));
    if (kind == 2)
        complain(checker, key, "websocket: not supported yet");
    route->kind = (enum conf_kind)kind;
    snprintf(key, sizeof(key), "%s.timeout", parent);
    read_timeout(checker, key, raw->timeout, 30 * 1000, &route->timeout);
    check_route_pools(checker, parent, raw, conf, route);
    check_meta(checker, parent, raw, route);
}

/* Those with a host first, then the longest path: the first that fits is the right one. */
static int compare_routes(const void *left, const void *right)
{
    const struct conf_route *a = left;
    const struct conf_route *b = right;
    if ((a->host == NULL) != (b->host == NULL))
        return a->host == NULL ? 1 : -1;
    if (a->path_len != b->path_len)
        return a->path_len < b->path_len ? 1 : -1;
    return 0;
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_routes(struct checker *checker, unsigned index,
    const struct conf_raw_listener *raw, const struct conf *conf, struct conf_listener *listener)
{
    char parent[64];
    snprintf(parent, sizeof(parent), "listeners[%u].routes", index);
    if (raw->routes_count == 0) {
        complain(checker, parent, "a listener needs routes");
        return;
    }
    listener->routes = take(checker, mem_zalloc(raw->routes_count * sizeof(*listener->routes)));
    if (listener->routes == NULL)
        return;
    listener->nroutes = raw->routes_count;
    for (unsigned i = 0; i < raw->routes_count; i++) {
        snprintf(parent, sizeof(parent), "listeners[%u].routes[%u]", index, i);
        check_route(checker, parent, &raw->routes[i], conf, &listener->routes[i]);
        for (unsigned j = 0; j < i && !checker->failed; j++) {
            if (same_text(listener->routes[j].path, listener->routes[i].path) &&
                same_text(listener->routes[j].host, listener->routes[i].host))
                complain(checker, parent, "'%s' is there twice for the same host",
                    listener->routes[i].path);
        }
    }
    qsort(listener->routes, listener->nroutes, sizeof(*listener->routes), compare_routes);
}

static void check_listener(
    struct checker *checker, const struct conf_raw *all, unsigned index, struct conf *conf)
{
    static const char *const protocols[] = {"http", "frame", "line"};
    const struct conf_raw_listener *raw = &all->listeners[index];
    struct conf_listener *listener = &conf->listeners[index];
    char key[96];
    listener->name = copy(checker, raw->name);
    listener->text = copy(checker, raw->address);
    snprintf(key, sizeof(key), "listeners[%u].protocol", index);
    if (raw->protocol != NULL && read_name(checker, key, raw->protocol, protocols, 3) != 0)
        complain(checker, key, "%s: not supported yet", raw->protocol);
    snprintf(key, sizeof(key), "listeners[%u].address", index);
    const char *wrong = conf_value_address(raw->address, &listener->address);
    if (wrong != NULL)
        complain(checker, key, "'%s': %s", raw->address, wrong);
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(all->listeners[i].address, raw->address) == 0)
            complain(checker, key, "'%s' is there twice", raw->address);
        if (strcmp(all->listeners[i].name, raw->name) == 0) {
            snprintf(key, sizeof(key), "listeners[%u].name", index);
            complain(checker, key, "'%s' is there twice", raw->name);
        }
    }
    check_routes(checker, index, raw, conf, listener);
}

static uint32_t cpu_count(void)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0)
        return 1;
    return MIN((uint32_t)CPU_COUNT(&cpus), (uint32_t)CONF_SHARDS_MAX);
}

static void check_top(struct checker *checker, const struct conf_raw *raw, struct conf *conf)
{
    static const char *const formats[] = {"text", "json"};
    conf->run_dir = copy(checker, raw->run_dir == NULL ? "/run/frontd" : raw->run_dir);
    if (conf->run_dir != NULL && conf->run_dir[0] != '/')
        complain(checker, "run_dir", "'%s': an absolute path", conf->run_dir);
    if (raw->shards == NULL || strcmp(raw->shards, "auto") == 0)
        conf->shards = cpu_count();
    else
        conf->shards = (uint32_t)read_number(checker, "shards", raw->shards, 1, 1, CONF_SHARDS_MAX);
    conf->user = copy(checker, raw->user);
    if (conf->user != NULL && geteuid() == 0 && getpwnam(conf->user) == NULL)
        complain(checker, "user", "there is no user '%s'", conf->user);
    read_duration(checker, "drain", raw->drain, 30 * 1000, &conf->drain);
    conf->log_level = LOG_INFO;
    if (raw->log.level != NULL) {
        int level = log_level_parse(raw->log.level);
        if (level < 0)
            complain(checker, "log.level", "'%s': error, warning, info or debug", raw->log.level);
        else
            conf->log_level = (enum log_level)level;
    }
    conf->log_format = LOG_TEXT;
    if (raw->log.format != NULL)
        conf->log_format = (enum log_format)read_name(
            checker, "log.format", raw->log.format, formats, 2);
}

static void check_all(struct checker *checker, const struct conf_raw *raw, struct conf *conf)
{
    refuse_later_keys(checker);
    check_top(checker, raw, conf);
    check_limits(checker, &raw->limits, &conf->limits);
    if (raw->pools_count == 0)
        complain(checker, "pools", "there is none");
    if (raw->listeners_count == 0)
        complain(checker, "listeners", "there is none");
    if (raw->pools_count > CONF_POOLS_MAX)
        complain(checker, "pools", "at most %d", CONF_POOLS_MAX);
    if (raw->listeners_count > CONF_LISTENERS_MAX)
        complain(checker, "listeners", "at most %d", CONF_LISTENERS_MAX);
    if (checker->failed)
        return;
    conf->pools = take(checker, mem_zalloc(raw->pools_count * sizeof(*conf->pools)));
    conf->listeners = take(checker, mem_zalloc(raw->listeners_count * sizeof(*conf->listeners)));
    if (checker->failed)
        return;
    conf->npools = raw->pools_count;
    for (unsigned i = 0; i < raw->pools_count && !checker->failed; i++)
        check_pool(checker, raw, i, &conf->pools[i]);
    conf->nlisteners = raw->listeners_count;
    for (unsigned i = 0; i < raw->listeners_count && !checker->failed; i++)
        check_listener(checker, raw, i, conf);
}

int conf_check(const char *file, const struct conf_raw *raw, const struct conf_lines *lines,
    struct conf *conf, char *error, size_t error_size)
{
    struct checker checker = {
        .file = file, .lines = lines, .error = error, .error_size = error_size};
    check_all(&checker, raw, conf);
    return checker.failed ? -EINVAL : 0;
}
