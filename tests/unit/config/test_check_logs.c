#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/access_line.h"
#include "frontd/config/parse.h"

static const char before_keys[] = "listeners:\n"
                                  "  - name: web\n"
                                  "    address: 127.0.0.1:8080\n"
                                  "    routes:\n"
                                  "      - {path: /rpc, kind: jsonrpc, pool: app}\n"
                                  "      - {path: /r, kind: jsonrpc, pool: app, slow_log: 250ms}\n"
                                  "      - {path: /n, kind: http, pool: app, slow_log: off}\n"
                                  "  - {name: f, address: 127.0.0.1:8081, protocol: frame, pool: "
                                  "app, slow_log: 2s}\n"
                                  "pools:\n"
                                  "  - name: app\n"
                                  "    workers: [\"unix:/run/app.sock\"]\n"; /* 11 */

/* What parses is conf_free()'d by the caller; NULL where it is refused, with what was said. */
static struct conf *parse(const char *keys, char *said, size_t size)
{
    struct conf *conf = NULL;
    char *all;
    size_t before = mem_in_use();
    int n = asprintf(&all, "%s%s", before_keys, keys);
    cr_assert(n > 0);
    said[0] = '\0';
    int r = conf_parse("c.yaml", all, (size_t)n, &conf, said, size);
    free(all);
    cr_assert_eq(r == 0, conf != NULL);
    if (r < 0)
        cr_assert_eq(mem_in_use(), before, "%s", keys);
    return conf;
}

static struct conf *parse_good(const char *keys)
{
    char said[512];
    struct conf *conf = parse(keys, said, sizeof(said));
    cr_assert_not_null(conf, "%s\n%s", keys, said);
    return conf;
}

Test(conf_check_logs, defaults)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good("");
    cr_expect_eq(conf->slow, 1000000);
    cr_expect_null(conf->request_id);
    cr_expect_null(conf->access_log);
    cr_expect_null(conf->tracing);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_logs, a_route_has_its_own_limit)
{
    struct conf *conf = parse_good("slow_log: 3s\n");
    const struct conf_listener *web = &conf->listeners[0];
    cr_expect_str_eq(web->routes[0].path, "/rpc");
    cr_expect_eq(web->routes[0].slow, 3000000);
    for (uint32_t i = 1; i < web->nroutes; i++)
        cr_expect_eq(
            web->routes[i].slow, strcmp(web->routes[i].path, "/r") == 0 ? 250000 : UINT64_MAX);
    cr_expect_eq(conf->listeners[1].routes[0].slow, 2000000);
    conf_free(conf);
    conf = parse_good("slow_log: off\n");
    cr_expect_eq(conf->listeners[0].routes[0].slow, UINT64_MAX);
    cr_expect_eq(conf->listeners[1].routes[0].slow, 2000000);
    conf_free(conf);
}

Test(conf_check_logs, access_log)
{
    struct conf *conf = parse_good("access_log: {path: /var/log/a.log, sample: 0.5}\n");
    cr_expect_str_eq(conf->access_log->path, "/var/log/a.log");
    cr_expect_eq(conf->access_log->line, 12);
    cr_expect_eq(conf->access_log->nparts, 0);
    cr_expect_eq(conf->access_log->sample, (uint64_t)1 << 31);
    conf_free(conf);
    conf = parse_good("access_log: {path: stderr, format: \"${peer} ${path}\"}\n");
    cr_expect_null(conf->access_log->path);
    cr_assert_eq(conf->access_log->nparts, 2);
    cr_expect_eq(conf->access_log->parts[1].field, ACCESS_path);
    cr_expect_eq(conf->access_log->sample, (uint64_t)1 << 32);
    conf_free(conf);
}

Test(conf_check_logs, tracing)
{
    struct conf *conf = parse_good("request_id: X-Request-ID\n"
                                   "tracing: {endpoint: \"http://127.0.0.1:4318\"}\n");
    cr_expect_str_eq(conf->request_id, "x-request-id");
    cr_expect_str_eq(conf->tracing->authority, "127.0.0.1:4318");
    cr_expect_str_eq(conf->tracing->path, "/v1/traces");
    cr_expect_eq(ntohs(conf->tracing->address.sock.in.sin_port), 4318);
    cr_expect_eq(((uint64_t)1 << 56) - conf->tracing->threshold, ((uint64_t)1 << 56) / 100);
    cr_expect(conf->tracing->parent);
    conf_free(conf);
    conf = parse_good("tracing: {endpoint: \"http://[::1]:80/otlp/\", ratio: 1, parent: false}\n");
    cr_expect_str_eq(conf->tracing->authority, "[::1]:80");
    cr_expect_str_eq(conf->tracing->path, "/otlp/v1/traces");
    cr_expect_eq(conf->tracing->address.sock.any.sa_family, AF_INET6);
    cr_expect_eq(conf->tracing->threshold, 0);
    cr_expect_not(conf->tracing->parent);
    conf_free(conf);
}

#define A64 "x23456789-123456789-123456789-123456789-123456789-123456789-1234"

Test(conf_check_logs, errors)
{
    static const struct {
        const char *keys;
        const char *error; /* NULL: it is right */
    } rows[] = {
        {"slow_log: 0s\n", "12: slow_log: "},
        {"slow_log: soon\n", "12: slow_log: "},
        {"slow_log: 1ms\n", NULL},
        {"request_id: off\n", NULL},
        {"request_id: a b\n", "12: request_id: 'a b': not a token"},
        {"request_id: Host\n", "12: request_id: 'Host': that header field has another use"},
        {"request_id: Sec-WebSocket-Accept\n",
            "12: request_id: 'Sec-WebSocket-Accept': that header field has another use"},
        {"request_id: access-control-allow-origin\n",
            "12: request_id: 'access-control-allow-origin': that header field has another use"},
        {"request_id: " A64 "\n", NULL},
        {"request_id: " A64 "5\n", "12: request_id: '" A64 "5': at most 64 bytes"},
        {"access_log: {path: a.log}\n", "12: access_log.path: 'a.log': the absolute path"},
        {"access_log: {path: /var/log/}\n", "12: access_log.path: "},
        {"access_log: {sample: 1}\n", "12: access_log.path: this key is needed here"},
        {"access_log: {path: stderr, sample: 1.1}\n", "12: access_log.sample: '1.1': a number"},
        {"access_log: {path: stderr, sample: -1}\n", "12: access_log.sample: "},
        {"access_log: {path: stderr, sample: 1e-3}\n", "12: access_log.sample: "},
        {"access_log: {path: stderr, sample: \".\"}\n", "12: access_log.sample: "},
        {"access_log: {path: stderr, sample: \"\"}\n", "12: access_log.sample: "},
        {"access_log: {path: stderr, sample: 0}\n", NULL},
        {"access_log: {path: stderr, format: \"${no}\"}\n",
            "12: access_log.format: '${no}': there is no such field"},
        {"tracing: {ratio: 1}\n", "12: tracing.endpoint: this key is needed here"},
        {"tracing: {endpoint: \"https://127.0.0.1:1\"}\n", "12: tracing.endpoint: "},
        {"tracing: {endpoint: \"http://collector:4318\"}\n", "12: tracing.endpoint: "},
        {"tracing: {endpoint: \"http://127.0.0.1\"}\n", "12: tracing.endpoint: "},
        {"tracing: {endpoint: \"http://127.0.0.1:4318/a?b\"}\n", "12: tracing.endpoint: "},
        {"tracing: {endpoint: \"http://a@127.0.0.1:4318\"}\n", "12: tracing.endpoint: "},
        {"tracing: {endpoint: \"http://127.0.0.1:4318/a\\r\\nb\"}\n", "12: tracing.endpoint: "},
        {"tracing: {endpoint: \"http://127.0.0.1:4318\", ratio: 2}\n", "12: tracing.ratio: "},
        {"tracing: {endpoint: \"http://127.0.0.1:4318\", parent: maybe}\n", "12: tracing.parent: "},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char said[512];
        char wanted[256] = "";
        if (rows[i].error != NULL)
            snprintf(wanted, sizeof(wanted), "c.yaml:%s", rows[i].error);
        conf_free(parse(rows[i].keys, said, sizeof(said)));
        cr_expect(strncmp(said, wanted, rows[i].error == NULL ? 1 : strlen(wanted)) == 0,
            "%s\n%s\nshould be: %s", rows[i].keys, said, wanted);
    }
}
