#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

static struct conf *parse(const char *kind, const char *keys, char *error, size_t size)
{
    char text[4096];
    struct conf *conf = NULL;
    int n = snprintf(text, sizeof(text),
        "pools: [{name: app, workers: ['unix:/run/app.sock'], idempotent: [get]}]\n"
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    routes:\n"
        "      - {path: /, kind: %s, pool: app, timeout: 7s, %s}\n",
        kind, keys);
    cr_assert(n > 0 && (size_t)n < sizeof(text));
    error[0] = '\0';
    conf_parse("c.yaml", text, (size_t)n, &conf, error, size);
    return conf;
}

static const struct conf_policy *of(const struct conf *conf, const char *method)
{
    return conf_policy_of(&conf->listeners[0].routes[0], (struct span){method, strlen(method)});
}

Test(check_policy, none)
{
    char error[256];
    struct conf *conf = parse("jsonrpc", "slow_log: off", error, sizeof(error));
    cr_assert_not_null(conf, "%s", error);
    cr_expect_eq(conf->npolicies, 0u);
    cr_expect_null(of(conf, "a"));
    conf_free(conf);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

/* More specific wins, key by key. */
Test(check_policy, inherits)
{
    char error[256];
    struct conf *conf = parse("jsonrpc",
        "calls: 100, rate: [{rate: 600/m, burst: 3}], methods: ["
        "{match: 'a.*', timeout: 2s, idempotent: true}, {match: 'a.b.*', calls: 5}, "
        "{match: a.b.c, idempotent: false, rate: [{per: all, rate: 1/h}]}]",
        error, sizeof(error));
    cr_assert_not_null(conf, "%s", error);
    const struct conf_policy *all = of(conf, "x"), *a = of(conf, "a.x"), *ab = of(conf, "a.b.x"),
                             *abc = of(conf, "a.b.c");
    cr_expect_eq(all->calls, 100u);
    cr_expect(all->timeout == 7000 && !all->has_idempotent && all->nrates == 1);
    cr_expect(all->rates[0].per == CONF_RATE_PEER && all->rates[0].interval == 100000 &&
              all->rates[0].burst == 3);
    cr_expect(a->calls == 100 && a->calls_of == all->number && a->timeout == 2000 &&
              a->idempotent && a->has_idempotent && a->rates == all->rates);
    cr_expect(ab->calls == 5 && ab->calls_of == ab->number && ab->timeout == 2000 &&
              ab->idempotent && ab->rates_of == all->number);
    cr_expect(abc->calls == 5 && abc->calls_of == ab->number && abc->has_idempotent &&
              !abc->idempotent && abc->rates[0].per == CONF_RATE_ALL);
    cr_expect(abc->rates[0].interval == 3600000000ULL && abc->rates[0].burst == 1);
    cr_expect_eq(of(conf, "a.b.cd"), ab, "a name is compared as a whole");
    cr_expect_neq(all->id, a->id);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

Test(check_policy, lists)
{
    static const struct {
        const char *keys;
        const char *allowed[4], *denied[4];
    } rows[] = {
        {"deny_methods: ['admin.*']", {"a", "admin"}, {"admin.x"}},
        {"allow_methods: [get, 'a.*']", {"get", "a.b"}, {"gets", "set"}},
        {"allow_methods: ['a.*'], deny_methods: ['a.b.*', a.c]", {"a.x"}, {"a.b.c", "a.c", "x"}},
        {"deny_methods: ['*'], allow_methods: [ok]", {"ok"}, {"x"}},
        {"deny_methods: ['a.*'], methods: [{match: a.b, calls: 3}]", {"x"}, {"a.b"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[256];
        struct conf *conf = parse("jsonrpc", rows[i].keys, error, sizeof(error));
        cr_assert_not_null(conf, "%s", error);
        for (size_t k = 0; k < 4 && rows[i].allowed[k] != NULL; k++) {
            const struct conf_policy *policy = of(conf, rows[i].allowed[k]);
            cr_expect(policy == NULL || !policy->denied, "row %zu: %s", i, rows[i].allowed[k]);
        }
        for (size_t k = 0; k < 4 && rows[i].denied[k] != NULL; k++)
            cr_expect(of(conf, rows[i].denied[k])->denied, "row %zu: %s", i, rows[i].denied[k]);
        conf_free(conf);
        cr_expect_eq(mem_in_use(), (size_t)0);
    }
}

Test(check_policy, errors)
{
    static const struct {
        const char *kind, *keys, *error;
    } rows[] = {
        {"jsonrpc", "calls: 0", "calls: "},
        {"jsonrpc", "calls: 1000001", "calls: "},
        {"jsonrpc", "idempotent: maybe", "idempotent: 'maybe'"},
        {"jsonrpc", "rate: [{rate: 10}]", "rate[0].rate: '10': not a rate"},
        {"jsonrpc", "rate: [{rate: 0/s}]", "rate[0].rate: '0/s': 1 to 1000000"},
        {"jsonrpc", "rate: [{rate: 1000001/s}]", "rate[0].rate: '1000001/s': 1 to 1000000"},
        {"jsonrpc", "rate: [{rate: 1/d}]", "rate[0].rate: '1/d': not a rate"},
        {"jsonrpc", "rate: [{rate: 1/s, burst: 0}]", "rate[0].burst: "},
        {"jsonrpc", "rate: [{rate: 1/s, burst: 1000001}]", "rate[0].burst: "},
        {"jsonrpc", "rate: [{rate: 1/s, per: user}]", "rate[0].per: 'user': peer, connection"},
        {"jsonrpc", "rate: [{rate: 1/s, per: 'header:a b'}]", "rate[0].per: 'header:a b'"},
        {"websocket", "rate: [{rate: 1/s, per: 'header:a'}]", "rate[0].per: only for kind"},
        {"websocket", "messages: raw, calls: 3", "messages: raw has no methods"},
        {"jsonrpc", "methods: [{match: 'a*b'}]", "methods[0]: 'a*b': the name of a method"},
        {"jsonrpc", "methods: [{match: '*'}]", "methods[0]: '*' is there twice"},
        {"jsonrpc", "methods: [{match: a}, {match: a}]", "methods[1]: 'a' is there twice"},
        {"jsonrpc", "methods: [{match: a, timeout: 0s}]", "methods[0].timeout: must be more"},
        {"jsonrpc", "allow_methods: [a], deny_methods: [a]", "deny_methods[0]: 'a' is in"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[512];
        struct conf *conf = parse(rows[i].kind, rows[i].keys, error, sizeof(error));
        cr_expect_null(conf, "row %zu", i);
        conf_free(conf);
        cr_expect(strstr(error, rows[i].error) != NULL && strncmp(error, "c.yaml:6: ", 10) == 0,
            "row %zu: %s", i, error);
        cr_expect_eq(mem_in_use(), (size_t)0, "row %zu", i);
    }
}
