#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/cpus.h"
#include "frontd/config/memory_limit.h"
#include "frontd/config/parse.h"

static struct conf *parse(const char *text)
{
    char error[512] = "";
    struct conf *conf = NULL;
    int r = conf_parse("c.yaml", text, strlen(text), &conf, error, sizeof(error));
    cr_assert_eq(r, 0, "%s", error);
    return conf;
}

static const char least[] = "listeners:\n"
                            "  - name: web\n"
                            "    address: 127.0.0.1:8080\n"
                            "    routes:\n"
                            "      - path: /rpc\n"
                            "        kind: jsonrpc\n"
                            "        pool: app\n"
                            "pools:\n"
                            "  - name: app\n"
                            "    workers: [\"unix:/run/app.sock\"]\n";

struct found {
    char text[1024];
    unsigned count;
};

static void on_found(void *data, const char *text)
{
    struct found *found = data;
    size_t n = strlen(found->text);
    snprintf(found->text + n, sizeof(found->text) - n, "%s\n", text);
    found->count++;
}

/* What holds only at the start is told, all of it, and is no error; anything else is one. */
Test(conf, findings_of_the_start)
{
    static const char config[] =
        "user: nobody-of-this-name\n"
        "listeners:\n"
        "  - {name: a, address: 'no-such-host.invalid:1', routes: [{path: /, kind: http, pool: "
        "p}]}\n"
        "  - {name: b, address: '127.0.0.1:1', routes: [{path: /, kind: http, pool: p}]}\n"
        "pools:\n"
        "  - {name: p, workers: ['tcp://other.invalid:1']}\n";
    struct found found = {.count = 0};
    const struct conf_findings findings = {.found = on_found, .data = &found};
    struct conf *conf = NULL;
    char error[512] = "";
    cr_assert_eq(conf_try("c", config, strlen(config), &findings, &conf, error, sizeof(error)), 0,
        "%s", error);
    cr_expect_str_eq(found.text,
        "c:1: user: there is no user 'nobody-of-this-name'\n"
        "c:3: listeners[0].address: 'no-such-host.invalid:1': the host cannot be resolved\n");
    cr_expect_eq(conf->listeners[0].address.len, 0U);
    cr_expect_eq(conf->listeners[0].naddresses, 0U);
    cr_expect_str_eq(
        conf->pools[0].workers[0].host, "other.invalid"); /* looked up when it is dialled */
    cr_expect_eq(conf->pools[0].workers[0].port, 1U);
    cr_expect_neq(conf->listeners[1].address.len, 0U);
    conf_free(conf);
    conf = NULL;
    cr_expect_eq(conf_parse("c", config, strlen(config), &conf, error, sizeof(error)), -EINVAL);
    cr_expect_null(conf);
    found.count = 0;
    static const char wrong[] = "shards: 0\nuser: nobody-of-this-name\nlisteners: []\npools: []\n";
    cr_expect_eq(
        conf_try("c", wrong, strlen(wrong), &findings, &conf, error, sizeof(error)), -EINVAL);
    cr_expect_str_eq(error, "c:1: shards: not a number from 1 to 31: '0'");
    cr_expect_eq(found.count, 1U);
}

Test(conf, seccomp)
{
    static const char *const values[] = {"false", "true", "'false'"};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        char text[1024];
        snprintf(text, sizeof(text), "seccomp: %s\n%s", values[i], least);
        struct conf *conf = parse(text);
        cr_expect_eq(conf->seccomp, i == 1, "%s", values[i]);
        conf_free(conf);
    }
}

Test(conf, defaults)
{
    struct conf *conf = parse(least);
    cr_assert_str_eq(conf->run_dir, "/run/frontd");
    cr_assert_null(conf->user);
    cr_assert(conf->seccomp);
    cr_assert_eq(conf->shards, MIN(conf_cpus(), (uint64_t)CONF_SHARDS_MAX));
    cr_assert(conf->log_level == LOG_INFO && conf->log_format == LOG_TEXT);
    cr_assert_eq(conf->drain, 30000u);
    cr_assert_eq(conf->shard_timeout, 10000u);
    cr_assert_eq(conf->limits.connections, 1000000u);
    cr_assert_eq(conf->limits.connections_per_peer, 0u);
    cr_assert_eq(conf->limits.peer_prefix, 64u);
    cr_assert_eq(conf->limits.header, 16384u);
    cr_assert_eq(conf->limits.headers, 100u);
    cr_assert_eq(conf->limits.body, 1048576u);
    cr_assert_eq(conf->limits.batch, 1000u);
    cr_assert_eq(conf->limits.write_buffer, 1048576u);
    cr_assert_eq(conf->limits.write_rate, 4096u);
    cr_assert_eq(conf->limits.memory, conf_memory_default(conf->shards));
    cr_assert_eq(conf->limits.calls_per_connection, 64u);
    cr_assert_eq(conf->limits.first_byte_timeout, 60000u);
    cr_assert_eq(conf->limits.header_timeout, 10000u);
    cr_assert_eq(conf->limits.body_timeout, 30000u);
    cr_assert_eq(conf->limits.idle_timeout, 3600000u);
    cr_assert_eq(conf->nlisteners, 1u);
    const struct conf_listener *web = &conf->listeners[0];
    cr_assert_str_eq(web->name, "web");
    cr_assert_str_eq(web->text, "127.0.0.1:8080");
    cr_assert(web->address.sock.any.sa_family == AF_INET && web->protocol == CONF_PROTOCOL_HTTP);
    cr_assert_eq(web->nroutes, 1u);
    const struct conf_route *route = &web->routes[0];
    cr_assert_str_eq(route->path, "/rpc");
    cr_assert_str_eq(route->prefix, "/rpc");
    cr_assert(route->prefix_len == 4 && !web->paths_strict);
    cr_assert(route->path_len == 4 && route->host == NULL && route->kind == CONF_JSONRPC);
    cr_assert(route->npools == 1 && route->pools[0] == 0);
    cr_assert(route->timeout == 30000 && route->meta == 0 && route->nheaders == 0);
    cr_assert_eq(conf->npools, 1u);
    const struct conf_pool *app = &conf->pools[0];
    cr_assert_str_eq(app->name, "app");
    cr_assert(app->nworkers == 1 && app->queue == 10000 && app->wait_for_worker == 5000);
    cr_assert(app->worker_timeout == 10000 && app->kill_after == 60000);
    cr_assert(app->failures == 5 && app->ejected == 10000);
    cr_assert_str_eq(app->workers[0].pattern, "/run/app.sock");
    cr_assert_str_eq(app->workers[0].text, "unix:/run/app.sock");
    cr_assert(app->hash == CONF_HASH_NONE && app->hash_name == NULL && app->nidempotent == 0);
    cr_assert_eq(app->nmethods, 1u);
    cr_assert_str_eq(app->methods[0], "*");
    cr_assert(app->command == NULL && app->ncommand == 0 && app->instances == 0);
    cr_assert(app->max_calls == 0 && app->max_age == 0 && app->max_memory == 0);
    cr_assert_eq(app->slow_start, 0u);
    conf_free(conf);
    cr_assert_null(conf_free(NULL));
}

static const char most[] =
    "run_dir: /tmp/x\n"
    "shards: 3\n"
    "drain: 0s\n"
    "shard_timeout: 2s\n"
    "log: {level: warning, format: json}\n"
    "limits:\n"
    "  connections: 7\n"
    "  connections_per_peer: 5\n"
    "  peer_prefix: 48\n"
    "  header: 1KiB\n"
    "  headers: 10\n"
    "  body: 2MiB\n"
    "  batch: 20\n"
    "  write_buffer: 3B\n"
    "  write_rate: 0\n"
    "  memory: 1024GiB\n"
    "  calls_per_connection: 2\n"
    "  first_byte_timeout: 4s\n"
    "  header_timeout: 1s\n"
    "  body_timeout: 2m\n"
    "  idle_timeout: 3h\n"
    "pools:\n"
    "  - name: site\n"
    "    workers: [\"tcp://127.0.0.1:7001\", \"tcp://[::1]:7002\", \"unix:/run/s-[0-9].sock\"]\n"
    "    queue: 0\n"
    "    wait_for_worker: 0s\n"
    "    worker_timeout: 250ms\n"
    "    kill_after: 2h\n"
    "    health: {failures: 1000, ejected: 5m}\n"
    "    balance: hash\n"
    "    hash: header:X-User\n"
    "    idempotent: [\"get_*\", health]\n"
    "    methods: [orders.*, health]\n"
    "  - name: app\n"
    "    workers: [\"unix:/run/app.sock\"]\n"
    "    balance: least\n"
    "    hash: peer\n"
    "  - {name: param, workers: [\"unix:/p\"], balance: hash, hash: \"param:User\"}\n"
    "  - {name: peer, realm: r, workers: [\"unix:/p\"], balance: bounded, hash: peer,\n"
    "     slow_start: 1h}\n"
    "  - {name: conn, workers: [\"unix:/p\"], balance: hash, hash: conn}\n"
    "  - {name: own, command: [python3, site.py, \"\"], instances: 4, restart_delay: 2s,\n"
    "     start_timeout: 1m, max_calls: 1000000000000, max_age: 24h, max_memory: 2GiB}\n"
    "listeners:\n"
    "  - name: web\n"
    "    address: unix:/run/web.sock\n"
    "    protocol: http\n"
    "    routes:\n"
    "      - path: /\n"
    "        kind: http\n"
    "        pool: site\n"
    "      - {path: /a/b, kind: http, pool: app}\n"
    "      - {path: /, host: Example.ORG, kind: http, pool: app}\n"
    "      - path: /rpc\n"
    "        kind: jsonrpc\n"
    "        pools: [app, site]\n"
    "        timeout: 250ms\n"
    "        meta: [peer, deadline, route, traceparent]\n"
    "        headers: [Authorization, X-Id]\n"
    "      - {path: /b, host: example.org, kind: http, pool: app}\n"
    "  - {name: six, address: \"[::1]:8080\", routes: [{path: /, kind: http, pool: app}]}\n";

Test(conf, everything_set)
{
    struct conf *conf = parse(most);
    cr_assert_str_eq(conf->run_dir, "/tmp/x");
    cr_assert(conf->shards == 3 && conf->drain == 0 && conf->shard_timeout == 2000);
    cr_assert(conf->log_level == LOG_WARNING && conf->log_format == LOG_JSON);
    const struct conf_limits *limits = &conf->limits;
    cr_assert(limits->connections == 7 && limits->connections_per_peer == 5);
    cr_assert_eq(limits->peer_prefix, 48u);
    cr_assert(limits->header == 1024 && limits->headers == 10 && limits->body == 2097152);
    cr_assert(limits->batch == 20 && limits->write_buffer == 3);
    cr_assert(limits->write_rate == 0 && limits->memory == UINT64_C(1) << 40);
    cr_assert(limits->calls_per_connection == 2 && limits->header_timeout == 1000);
    cr_assert_eq(limits->first_byte_timeout, 4000u);
    cr_assert(limits->body_timeout == 120000 && limits->idle_timeout == 10800000);

    cr_assert_eq(conf->npools, 6u);
    const struct conf_pool *site = &conf->pools[0];
    cr_assert(site->nworkers == 3 && site->queue == 0 && site->wait_for_worker == 0);
    cr_assert(site->worker_timeout == 250 && site->kill_after == 7200000);
    cr_assert(site->failures == 1000 && site->ejected == 300000);
    cr_assert_null(site->workers[0].pattern);
    cr_assert_eq(ntohs(site->workers[0].address.sock.in.sin_port), 7001);
    cr_assert_eq(ntohs(site->workers[1].address.sock.in6.sin6_port), 7002);
    cr_assert_str_eq(site->workers[2].pattern, "/run/s-[0-9].sock");
    cr_assert_eq(site->hash, CONF_HASH_HEADER);
    cr_assert_str_eq(site->hash_name, "x-user");
    cr_assert(site->nidempotent == 2 && site->nmethods == 2);
    cr_assert_str_eq(site->idempotent[0], "get_*");
    cr_assert_str_eq(site->methods[1], "health");
    cr_assert_eq(conf->pools[1].hash, CONF_HASH_NONE, "hash does nothing with balance: least");
    cr_assert_eq(conf->pools[2].hash, CONF_HASH_PARAM);
    cr_assert_str_eq(conf->pools[2].hash_name, "User");
    cr_assert(conf->pools[3].hash == CONF_HASH_PEER && conf->pools[3].bounded);
    cr_assert_not(conf->pools[2].bounded);
    cr_assert_eq(conf->pools[3].slow_start, 3600000u);
    cr_assert_eq(conf->pools[4].hash, CONF_HASH_CONN);
    const struct conf_pool *own = &conf->pools[5];
    cr_assert(own->ncommand == 3 && own->instances == 4);
    cr_assert_str_eq(own->command[0], "python3");
    cr_assert_str_eq(own->command[2], "");
    cr_assert(own->restart_delay == 2000 && own->start_timeout == 60000);
    cr_assert(own->max_calls == 1000000000000 && own->max_age == 86400000);
    cr_assert_eq(own->max_memory, UINT64_C(2) << 30);
    cr_assert_eq(own->nworkers, 1u);
    cr_assert_str_eq(own->workers[0].pattern, "/tmp/x/workers/own.*.sock");
    cr_assert_str_eq(own->workers[0].text, "unix:/tmp/x/workers/own.*.sock");

    const struct conf_listener *web = &conf->listeners[0];
    cr_assert_str_eq(web->address.sock.un.sun_path, "/run/web.sock");
    /* Those with a host first, then by the length of the path. */
    static const struct {
        const char *host;
        const char *path;
    } order[] = {
        {"example.org", "/b"}, {"example.org", "/"}, {NULL, "/a/b"}, {NULL, "/rpc"}, {NULL, "/"}};
    cr_assert_eq(web->nroutes, ARRAY_LEN(order));
    const struct conf_route *rpc = NULL;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        const struct conf_route *route = &web->routes[i];
        if (strcmp(route->path, "/rpc") == 0)
            rpc = route;
        if (i == 2 || i == 3) /* equally long */
            continue;
        cr_assert_str_eq(route->path, order[i].path);
        cr_assert((route->host == NULL) == (order[i].host == NULL));
        cr_assert(route->host == NULL || strcmp(route->host, order[i].host) == 0);
    }
    cr_assert_not_null(rpc);
    cr_assert(rpc->npools == 2 && rpc->pools[0] == 1 && rpc->pools[1] == 0);
    cr_assert_eq(rpc->timeout, 250u);
    cr_assert_eq(
        rpc->meta, CONF_META_PEER | CONF_META_DEADLINE | CONF_META_ROUTE | CONF_META_TRACEPARENT);
    cr_assert_eq(rpc->nheaders, 2u);
    cr_assert_str_eq(rpc->headers[0], "authorization");
    cr_assert_str_eq(rpc->headers[1], "x-id");
    cr_assert_eq(conf->listeners[1].address.sock.any.sa_family, AF_INET6);
    conf_free(conf);
}

static const char realms[] =
    "pools:\n"
    "  - {name: app, workers: [\"unix:/a\"]}\n"
    "  - {name: red, realm: red, workers: [\"unix:/r\"]}\n"
    "  - {name: blue, realm: blue, workers: [\"unix:/b\"]}\n"
    "  - {name: also, realm: red, workers: [\"unix:/l\"]}\n"
    "listeners:\n"
    "  - name: web\n"
    "    address: 127.0.0.1:1\n"
    "    routes:\n"
    "      - {path: /aaaa, kind: websocket, pool: app}\n"
    "      - {path: /aaa, kind: websocket, pools: [red, also]}\n"
    "      - {path: /aa, kind: http, pool: blue}\n"
    "      - {path: /a, kind: jsonrpc, pool: also}\n"
    "  - {name: l, address: \"127.0.0.1:2\", protocol: line, pools: [also, red]}\n";

Test(conf, realms)
{
    struct conf *conf = parse(realms);
    const struct conf_pool *pools = conf->pools;
    const struct conf_route *routes = conf->listeners[0].routes;
    cr_assert(pools[0].realm == NULL && pools[0].realm_id == 0);
    cr_assert_str_eq(pools[1].realm, "red");
    cr_assert(pools[1].realm_id != 0 && pools[2].realm_id != 0);
    cr_assert_neq(pools[1].realm_id, pools[2].realm_id);
    cr_assert_eq(pools[1].realm_id, pools[3].realm_id);
    cr_assert_eq(routes[0].realm, 0);
    cr_assert_eq(routes[1].realm, pools[1].realm_id);
    cr_assert_eq(routes[2].realm, pools[2].realm_id);
    cr_assert_eq(routes[3].realm, pools[1].realm_id);
    cr_assert_eq(conf->listeners[1].routes[0].realm, pools[1].realm_id);
    conf_free(conf);
}

/*
 * Each allocation fails in its turn: it is said, and nothing leaks (LeakSanitizer sees libyaml's).
 */
Test(conf, without_memory)
{
    static const char *const texts[] = {least, most};
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        size_t before = mem_in_use();
        bool all = false;
        for (long n = 0; !all; n++) {
            char error[512] = "";
            struct conf *conf = NULL;
            cr_assert_lt(n, 10000);
            mem_fail_after(n);
            int r = conf_parse("c", texts[t], strlen(texts[t]), &conf, error, sizeof(error));
            void *probe = mem_zalloc(1);
            all = probe == NULL; /* it took exactly n: the next one is the first to fail */
            mem_free(probe);
            mem_fail_after(-1);
            cr_assert_eq(r, all ? 0 : -EINVAL, "allocation %ld: %s", n, error);
            if (all) {
                conf_free(conf);
            } else {
                cr_assert_null(conf);
                cr_assert_not_null(strstr(error, ": config: no memory"), "%ld: %s", n, error);
            }
            cr_assert_eq(mem_in_use(), before, "allocation %ld", n);
        }
    }
}

Test(conf, connections_of_a_descriptor_limit)
{
    static const struct {
        uint64_t descriptors, connections;
        uint32_t shards;
    } rows[] = {
        {0, 1, 1},
        {1, 1, 1},
        {32, 1, 1},
        {33, 1, 1},
        {34, 2, 1},
        {64, 32, 1},
        {128, 96, 1},
        {129, 97, 1},
        {256, 192, 1},
        {512, 384, 1},
        {516, 388, 1},
        {1024, 896, 1},
        {1048576, 1048448, 1},
        {UINT64_MAX, UINT64_MAX - 128, 1},
        {0, 1, CONF_SHARDS_MAX},
        {182, 1, CONF_SHARDS_MAX},
        {34, 1, 2},
        {64, 27, 2},
        {256, 117, 16},
        {1024, 746, CONF_SHARDS_MAX},
        {UINT64_MAX, UINT64_MAX - 278, CONF_SHARDS_MAX},
    };
    uint64_t last = 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_assert_eq(conf_connections_of(rows[i].descriptors, rows[i].shards), rows[i].connections,
            "of %llu, %u shards", (unsigned long long)rows[i].descriptors, rows[i].shards);
    for (uint64_t n = 0; n < 5000; n++) {
        uint64_t now = conf_connections_of(n, 1);
        cr_assert(now >= 1 && now >= last && now <= MAX(n, 1U));
        last = now;
    }
}

Test(conf, methods)
{
    const struct {
        const char *pattern;
        struct span method;
        unsigned fit;
    } rows[] = {
        {"get", SPAN("get"), UINT32_MAX},
        {"get", SPAN("ge"), 0},
        {"get", SPAN("gets"), 0},
        {"get", SPAN("Get"), 0},
        {"get", SPAN(""), 0},
        {"*", SPAN(""), 1},
        {"*", SPAN("get"), 1},
        {"get*", SPAN("get"), 4},
        {"get*", SPAN("getter"), 4},
        {"get*", SPAN("ge"), 0},
        {"get*", SPAN("gte"), 0},
        {"orders.*", SPAN("orders."), 8},
        {"orders.*", SPAN("orders"), 0},
        {"get", SPAN("get\0"), 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_assert_eq(conf_method_fit(rows[i].pattern, rows[i].method), rows[i].fit, "%s, %s",
            rows[i].pattern, rows[i].method.p);
    char get[] = "get_*";
    char health[] = "health";
    char *const patterns[] = {get, health};
    cr_assert(conf_method_listed(patterns, 2, SPAN("health")));
    cr_assert(conf_method_listed(patterns, 2, SPAN("get_x")));
    cr_assert(!conf_method_listed(patterns, 2, SPAN("healthy")));
    cr_assert(!conf_method_listed(patterns, 0, SPAN("health")));
}
