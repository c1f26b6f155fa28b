#include "frontd/config/check.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/codec/http_head.h"
#include "frontd/config/check_access.h"
#include "frontd/config/check_admin.h"
#include "frontd/config/check_command.h"
#include "frontd/config/check_logs.h"
#include "frontd/config/check_policy.h"
#include "frontd/config/check_proxies.h"
#include "frontd/config/check_route.h"
#include "frontd/config/check_tls.h"
#include "frontd/config/checker.h"
#include "frontd/config/cpus.h"
#include "frontd/config/memory_limit.h"
#include "frontd/config/value.h"
#include "proto/frame.h"

/* Without the key the limit is set once the number of shards is known. */
static void check_memory(struct checker *checker, const char *text, struct conf_limits *limits)
{
    if (text == NULL)
        return;
    const char *wrong = conf_value_memory(text, &limits->memory);
    if (wrong != NULL)
        checker_complain(checker, "limits.memory", "%s: '%s'", wrong, text);
    else if (limits->memory < CONF_MEMORY_MIN)
        checker_complain(checker, "limits.memory", "must be at least %d bytes", CONF_MEMORY_MIN);
}

static void check_limits(
    struct checker *checker, const struct conf_raw_limits *raw, struct conf_limits *limits)
{
    limits->connections = checker_number(
        checker, "limits.connections", raw->connections, 1000000, 1, 1000000000);
    limits->connections_per_peer = checker_number(
        checker, "limits.connections_per_peer", raw->connections_per_peer, 0, 0, 1000000000);
    limits->peer_prefix = (uint32_t)checker_number(
        checker, "limits.peer_prefix", raw->peer_prefix, 64, 1, 128);
    checker_size(checker, "limits.header", raw->header, 16 * 1024, 128, &limits->header);
    limits->headers = (uint32_t)checker_number(
        checker, "limits.headers", raw->headers, 100, 1, HTTP_FIELDS_MAX);
    checker_size(checker, "limits.body", raw->body, 1024 * 1024, 1, &limits->body);
    limits->batch = (uint32_t)checker_number(
        checker, "limits.batch", raw->batch, 1000, 1, CONF_BATCH_MAX);
    checker_size(
        checker, "limits.write_buffer", raw->write_buffer, 1024 * 1024, 1, &limits->write_buffer);
    checker_size(checker, "limits.write_rate", raw->write_rate, 4096, 0, &limits->write_rate);
    check_memory(checker, raw->memory, limits);
    limits->calls_per_connection = (uint32_t)checker_number(
        checker, "limits.calls_per_connection", raw->calls_per_connection, 64, 1, CONF_CALLS_MAX);
    limits->subscriptions = (uint32_t)checker_number(
        checker, "limits.subscriptions", raw->subscriptions, 64, 1, 65536);
    checker_size(checker, "limits.state", raw->state, 4096, 0, &limits->state);
    if (limits->state > CONF_STATE_MAX)
        checker_complain(checker, "limits.state", "at most %d bytes", CONF_STATE_MAX);
    limits->streams = (uint32_t)checker_number(
        checker, "limits.streams", raw->streams, 100, 1, CONF_STREAMS_MAX);
    checker_timeout(checker, "limits.first_byte_timeout", raw->first_byte_timeout, 60 * 1000,
        &limits->first_byte_timeout);
    checker_timeout(
        checker, "limits.header_timeout", raw->header_timeout, 10 * 1000, &limits->header_timeout);
    checker_timeout(
        checker, "limits.body_timeout", raw->body_timeout, 30 * 1000, &limits->body_timeout);
    checker_timeout(checker, "limits.idle_timeout", raw->idle_timeout, (uint64_t)3600 * 1000,
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
            checker_complain(checker, path,
                "'%s': a method, or the start of one and '*' at its end", patterns[i]);
        }
    }
}

/* Takes `weight=N` off the end of a worker's text. Returns where it begins; or its end. */
static const char *check_weight(
    struct checker *checker, const char *key, const char *text, uint32_t *ret_weight)
{
    static const char word[] = " weight=";
    const char *at = strstr(text, word);
    *ret_weight = 1;
    if (at == NULL)
        return text + strlen(text);
    *ret_weight = (uint32_t)checker_number(
        checker, key, at + sizeof(word) - 1, 1, 1, CONF_WEIGHT_MAX);
    while (at > text && at[-1] == ' ')
        at--;
    return at;
}

static void check_worker(
    struct checker *checker, const char *key, const char *written, struct conf_worker *worker)
{
    const char *end = check_weight(checker, key, written, &worker->weight);
    worker->text = checker_take(checker, mem_strndup(written, (size_t)(end - written)));
    const char *text = worker->text;
    if (text == NULL)
        return;
    worker->tls = strncmp(text, "tls://", 6) == 0;
    if (worker->tls || strncmp(text, "tcp://", 6) == 0) {
        char host[CONF_VALUE_HOST_SIZE];
        const char *wrong = strncmp(text + 6, "unix:", 5) == 0
                                ? "not host:port"
                                : conf_value_host(text + 6, host, &worker->port, &worker->address);
        if (wrong != NULL)
            checker_complain(checker, key, "'%s': %s", text, wrong);
        else if (worker->address.len == 0)
            worker->host = checker_copy(checker, host);
        if (worker->tls && wrong == NULL) {
            host[strlen(host) - (host[0] != '\0' && host[strlen(host) - 1] == '.')] = '\0';
            worker->server_name = checker_copy(checker, host);
        }
        return;
    }
    if (strncmp(text, "unix:/", 6) != 0) {
        checker_complain(
            checker, key, "'%s': neither unix:/PATH nor tcp:// or tls://HOST:PORT", text);
        return;
    }
    worker->pattern = checker_copy(checker, text + 5);
    const char *slash = strrchr(text, '/');
    if (strcspn(text, "*?[") < (size_t)(slash - text))
        checker_complain(
            checker, key, "'%s': only the last part of the path may have wildcards", text);
    if (slash[1] == '\0')
        checker_complain(checker, key, "'%s': ends in a folder", text);
    struct sockaddr_un un;
    if (strcspn(text, "*?[") == strlen(text) && strlen(text + 5) >= sizeof(un.sun_path))
        checker_complain(checker, key, "the path of a UNIX socket has at most 107 bytes");
}

static void check_hash(struct checker *checker, const char *parent, const struct conf_raw_pool *raw,
    struct conf_pool *pool)
{
    static const char *const balances[] = {"least", "hash", "bounded"};
    char key[96];
    snprintf(key, sizeof(key), "%s.balance", parent);
    unsigned balance = (unsigned)checker_name(checker, key, raw->balance, balances, 3);
    bool hash = balance > 0;
    snprintf(key, sizeof(key), "%s.hash", parent);
    if (hash && raw->hash == NULL)
        checker_complain(checker, key, "balance: %s needs it", balances[balance]);
    if (raw->hash == NULL)
        return;
    if (!hash)
        checker_warn(checker, key, "it has no effect without balance: hash");
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
        checker_complain(checker, key, "'%s': peer, conn, header:NAME or param:NAME", raw->hash);
    if (!hash)
        return;
    pool->hash = kind;
    pool->bounded = balance == 2;
    if (pool->bounded && kind == CONF_HASH_CONN)
        checker_complain(checker, key,
            "'conn': a connection does not leave its worker because of load: it takes balance: "
            "hash");
    if (kind == CONF_HASH_HEADER)
        pool->hash_name = checker_copy_lower(checker, raw->hash + 7);
    if (kind == CONF_HASH_PARAM)
        pool->hash_name = checker_copy(checker, raw->hash + 6);
}

static void check_lost(struct checker *checker, const char *parent, const struct conf_raw_pool *raw,
    struct conf_pool *pool)
{
    static const char *const kinds[] = {"keep", "close"};
    char key[96];
    if (raw->on_worker_lost == NULL)
        return;
    snprintf(key, sizeof(key), "%s.on_worker_lost", parent);
    if (pool->hash != CONF_HASH_CONN)
        checker_complain(checker, key, "it takes balance: hash with hash: conn");
    unsigned kind = (unsigned)checker_name(checker, key, raw->on_worker_lost, kinds, 2);
    pool->on_worker_lost = kind == 0 ? CONF_LOST_KEEP : CONF_LOST_CLOSE;
}

static void check_workers(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, struct conf_pool *pool)
{
    char key[96];
    if (raw->workers_count == 0) {
        snprintf(key, sizeof(key), "%s.workers", parent);
        checker_complain(checker, key, "a pool needs workers or a command");
        return;
    }
    pool->workers = checker_take(checker, mem_zalloc(raw->workers_count * sizeof(*pool->workers)));
    if (pool->workers == NULL)
        return;
    pool->nworkers = raw->workers_count;
    for (unsigned i = 0; i < raw->workers_count; i++) {
        snprintf(key, sizeof(key), "%s.workers[%u]", parent, i);
        check_worker(checker, key, raw->workers[i], &pool->workers[i]);
    }
}

/*
 * A realm is identified by a number that is made of its name: a config with two names that have
 * the same number is refused.
 */
static void check_realm(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, const struct conf *conf, struct conf_pool *pool)
{
    char key[96];
    if (raw->realm == NULL)
        return;
    snprintf(key, sizeof(key), "%s.realm", parent);
    const char *wrong = conf_value_realm(raw->realm, &pool->realm_id);
    if (wrong != NULL)
        checker_complain(checker, key, "'%s': %s", raw->realm, wrong);
    pool->realm = checker_copy(checker, raw->realm);
    for (const struct conf_pool *other = conf->pools; other < pool && pool->realm != NULL;
         other++) {
        if (other->realm != NULL && other->realm_id == pool->realm_id &&
            strcmp(other->realm, pool->realm) != 0)
            checker_complain(checker, key, "'%s': take another name than that, and '%s'",
                pool->realm, other->realm);
    }
}

static void check_health(struct checker *checker, const char *parent,
    const struct conf_raw_health *raw, struct conf_pool *pool)
{
    char key[96];
    snprintf(key, sizeof(key), "%s.health.failures", parent);
    pool->failures = (uint32_t)checker_number(
        checker, key, raw == NULL ? NULL : raw->failures, 5, 0, 1000);
    snprintf(key, sizeof(key), "%s.health.ejected", parent);
    checker_timeout(checker, key, raw == NULL ? NULL : raw->ejected, 10 * 1000, &pool->ejected);
    if (pool->ejected > CONF_EJECTED_MAX_MS)
        checker_complain(checker, key, "at most 5m");
}

enum { SLOW_START_MAX_MS = 60 * 60 * 1000 };

/* With balance: hash a call has one worker, which it would have to wait for. */
static void check_slow_start(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, struct conf_pool *pool)
{
    char key[96];
    snprintf(key, sizeof(key), "%s.slow_start", parent);
    checker_duration(checker, key, raw->slow_start, 0, &pool->slow_start);
    if (pool->slow_start > SLOW_START_MAX_MS)
        checker_complain(checker, key, "at most 1h");
    else if (pool->slow_start != 0 && pool->hash != CONF_HASH_NONE && !pool->bounded)
        checker_complain(checker, key, "not with balance: hash: a call goes to its own worker");
}

static void check_pool(
    struct checker *checker, const struct conf_raw *all, unsigned index, struct conf *conf)
{
    const struct conf_raw_pool *raw = &all->pools[index];
    struct conf_pool *pool = &conf->pools[index];
    char parent[64];
    char key[96];
    snprintf(parent, sizeof(parent), "pools[%u]", index);
    pool->line = conf_lines_near(checker->lines, parent);
    snprintf(key, sizeof(key), "%s.name", parent);
    pool->name = checker_copy(checker, raw->name);
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(all->pools[i].name, raw->name) == 0)
            checker_complain(checker, key, "'%s' is there twice", raw->name);
    }
    conf_check_managed(checker, parent, raw, conf, pool);
    if (pool->command == NULL)
        check_workers(checker, parent, raw, pool);
    conf_check_pool_tls(checker, parent, raw, pool);
    check_realm(checker, parent, raw, conf, pool);
    snprintf(key, sizeof(key), "%s.queue", parent);
    pool->queue = (uint32_t)checker_number(checker, key, raw->queue, 10000, 0, 10000000);
    snprintf(key, sizeof(key), "%s.wait_for_worker", parent);
    checker_duration(checker, key, raw->wait_for_worker, 5000, &pool->wait_for_worker);
    snprintf(key, sizeof(key), "%s.worker_timeout", parent);
    checker_timeout(checker, key, raw->worker_timeout, 10 * 1000, &pool->worker_timeout);
    snprintf(key, sizeof(key), "%s.kill_after", parent);
    checker_timeout(checker, key, raw->kill_after, 60 * 1000, &pool->kill_after);
    check_health(checker, parent, raw->health, pool);
    check_hash(checker, parent, raw, pool);
    check_lost(checker, parent, raw, pool);
    check_slow_start(checker, parent, raw, pool);
    check_patterns(checker, parent, "idempotent", raw->idempotent, raw->idempotent_count);
    check_patterns(checker, parent, "methods", raw->methods, raw->methods_count);
    pool->idempotent = checker_copy_texts(checker, raw->idempotent, raw->idempotent_count, false);
    pool->nidempotent = pool->idempotent == NULL ? 0 : raw->idempotent_count;
    static char star[] = "*";
    static char *every[] = {star};
    unsigned nmethods = raw->methods_count;
    pool->methods = checker_copy_texts(
        checker, nmethods == 0 ? every : raw->methods, nmethods == 0 ? 1 : nmethods, false);
    pool->nmethods = pool->methods == NULL ? 0 : MAX(nmethods, 1U);
}

static void check_listener(
    struct checker *checker, const struct conf_raw *all, unsigned index, struct conf *conf)
{
    static const char *const protocols[] = {"http", "frame", "line"};
    const struct conf_raw_listener *raw = &all->listeners[index];
    struct conf_listener *listener = &conf->listeners[index];
    char key[96];
    snprintf(key, sizeof(key), "listeners[%u]", index);
    listener->line = conf_lines_near(checker->lines, key);
    listener->name = checker_copy(checker, raw->name);
    listener->text = checker_copy(checker, raw->address);
    snprintf(key, sizeof(key), "listeners[%u].protocol", index);
    listener->protocol = (enum conf_protocol)checker_name(
        checker, key, raw->protocol, protocols, ARRAY_LEN(protocols));
    snprintf(key, sizeof(key), "listeners[%u].address", index);
    size_t n = 0;
    bool look_up = checker->findings == NULL || !checker->findings->blind;
    const char *wrong = conf_value_addresses(raw->address, look_up, listener->addresses, &n);
    listener->naddresses = (uint32_t)n;
    if (n > 0)
        listener->address = listener->addresses[0];
    if (wrong == conf_value_unresolved)
        checker_complain_of_start(checker, key, "'%s': %s", raw->address, wrong);
    else if (wrong != NULL)
        checker_complain(checker, key, "'%s': %s", raw->address, wrong);
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(all->listeners[i].address, raw->address) == 0)
            checker_complain(checker, key, "'%s' is there twice", raw->address);
        if (strcmp(all->listeners[i].name, raw->name) == 0) {
            snprintf(key, sizeof(key), "listeners[%u].name", index);
            checker_complain(checker, key, "'%s' is there twice", raw->name);
        }
    }
    snprintf(key, sizeof(key), "listeners[%u]", index);
    conf_check_access(checker, key, &raw->access, &listener->access);
    conf_check_proxies(checker, index, raw, listener);
    conf_check_tls(checker, index, raw, listener);
    conf_check_routes(checker, index, raw, conf, listener);
}

enum { RUN_DIR_MAX = 87 /* bytes; a shard finds run_dir/shards/report.sock by its path */ };

static void check_top(struct checker *checker, const struct conf_raw *raw, struct conf *conf)
{
    static const char *const formats[] = {"text", "json"};
    static const char *const switches[] = {"true", "false"}; /* the default first */
    conf->run_dir = checker_copy(checker, raw->run_dir == NULL ? "/run/frontd" : raw->run_dir);
    if (conf->run_dir != NULL && conf->run_dir[0] != '/')
        checker_complain(checker, "run_dir", "'%s': an absolute path", conf->run_dir);
    if (conf->run_dir != NULL && strlen(conf->run_dir) > RUN_DIR_MAX)
        checker_complain(checker, "run_dir", "at most %d bytes", RUN_DIR_MAX);
    if (raw->shards == NULL || strcmp(raw->shards, "auto") == 0)
        conf->shards = (uint32_t)MIN(conf_cpus(), (uint64_t)CONF_SHARDS_MAX);
    else
        conf->shards = (uint32_t)checker_number(
            checker, "shards", raw->shards, 1, 1, CONF_SHARDS_MAX);
    conf->user = checker_copy(checker, raw->user);
    bool user_counts = geteuid() == 0 ||
                       (checker->findings != NULL && checker->findings->found != NULL);
    if (conf->user != NULL && user_counts && getpwnam(conf->user) == NULL)
        checker_complain_of_start(checker, "user", "there is no user '%s'", conf->user);
    conf->seccomp = checker_name(checker, "seccomp", raw->seccomp, switches, 2) == 0;
    checker_duration(checker, "drain", raw->drain, 30 * 1000, &conf->drain);
    checker_duration(checker, "shard_timeout", raw->shard_timeout, 10 * 1000, &conf->shard_timeout);
    if (conf->shard_timeout < CONF_SHARD_TIMEOUT_MIN)
        checker_complain(
            checker, "shard_timeout", "must be at least %d s", CONF_SHARD_TIMEOUT_MIN / 1000);
    conf->log_level = LOG_INFO;
    if (raw->log.level != NULL) {
        int level = log_level_parse(raw->log.level);
        if (level < 0)
            checker_complain(
                checker, "log.level", "'%s': error, warning, info or debug", raw->log.level);
        else
            conf->log_level = (enum log_level)level;
    }
    conf->log_format = (enum log_format)checker_name(
        checker, "log.format", raw->log.format, formats, ARRAY_LEN(formats));
}

/*
 * A listener for all interfaces, of both families, leaves the family that was not written to a
 * listener that has it by name.
 */
static void leave_to_others(struct conf_listener *listener, const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *other = &conf->listeners[i];
        if (other != listener && listener->naddresses == 2 &&
            conf_value_is_any(&listener->address) &&
            conf_value_same(&listener->addresses[1], &other->address))
            listener->naddresses = 1;
    }
}

/* Two listeners with an address in common are an error, however the address is written. */
static void check_addresses(struct checker *checker, unsigned index, struct conf *conf)
{
    struct conf_listener *listener = &conf->listeners[index];
    char key[96];
    leave_to_others(listener, conf);
    snprintf(key, sizeof(key), "listeners[%u].address", index);
    for (unsigned i = 0; i < index; i++) {
        const struct conf_listener *other = &conf->listeners[i];
        for (uint32_t k = 0; k < listener->naddresses * other->naddresses; k++) {
            if (conf_value_same(&listener->addresses[k % listener->naddresses],
                    &other->addresses[k / listener->naddresses])) {
                checker_complain(checker, key, "'%s' and '%s' have an address in common",
                    listener->text, other->text);
                return;
            }
        }
    }
}

static void check_all(struct checker *checker, const struct conf_raw *raw, struct conf *conf)
{
    check_top(checker, raw, conf);
    check_limits(checker, &raw->limits, &conf->limits);
    conf_check_logs(checker, raw, conf);
    if (raw->limits.memory == NULL)
        conf->limits.memory = conf_memory_default(conf->shards);
    if (conf->limits.body > FRAME_MAX_DEFAULT)
        checker_warn(checker, "limits.body", "no worker takes more than 16MiB");
    if (raw->pools_count == 0)
        checker_complain(checker, "pools", "there is none");
    if (raw->listeners_count == 0)
        checker_complain(checker, "listeners", "there is none");
    if (raw->pools_count > CONF_POOLS_MAX)
        checker_complain(checker, "pools", "at most %d", CONF_POOLS_MAX);
    if (raw->listeners_count > CONF_LISTENERS_MAX)
        checker_complain(checker, "listeners", "at most %d", CONF_LISTENERS_MAX);
    if (checker->failed)
        return;
    conf->pools = checker_take(checker, mem_zalloc(raw->pools_count * sizeof(*conf->pools)));
    conf->listeners = checker_take(
        checker, mem_zalloc(raw->listeners_count * sizeof(*conf->listeners)));
    if (checker->failed)
        return;
    conf->npools = raw->pools_count;
    for (unsigned i = 0; i < raw->pools_count && !checker->failed; i++)
        check_pool(checker, raw, i, conf);
    conf->nlisteners = raw->listeners_count;
    for (unsigned i = 0; i < raw->listeners_count && !checker->failed; i++)
        check_listener(checker, raw, i, conf);
    for (unsigned i = 0; i < raw->listeners_count && !checker->failed; i++)
        check_addresses(checker, i, conf);
    uint32_t addresses = 0;
    for (unsigned i = 0; i < conf->nlisteners; i++)
        addresses += conf->listeners[i].naddresses;
    if (addresses > CONF_ALL_ADDRESSES_MAX)
        checker_complain(checker, "listeners", "they have %u addresses, at most %d", addresses,
            CONF_ALL_ADDRESSES_MAX);
    if (!checker->failed)
        conf_check_admin(checker, raw->admin, conf);
    if (!checker->failed)
        conf_check_metrics(checker, raw->metrics, conf);
}

static void number_routes(struct conf *conf)
{
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        for (uint32_t k = 0; k < conf->listeners[i].nroutes; k++) {
            struct conf_route *route = &conf->listeners[i].routes[k];
            route->number = conf->nroutes++;
            route->pair = conf->npairs;
            conf->npairs += route->npools;
            conf->streams_bodies |= route->stream_body > 0;
        }
    }
}

int conf_check(const char *file, const struct conf_raw *raw, const struct conf_lines *lines,
    const struct conf_findings *findings, struct conf *conf, char *error, size_t error_size)
{
    struct checker checker = {.file = file,
        .lines = lines,
        .findings = findings,
        .error = error,
        .error_size = error_size};
    check_all(&checker, raw, conf);
    number_routes(conf);
    conf_number_policies(conf);
    return checker.failed ? -EINVAL : 0;
}
