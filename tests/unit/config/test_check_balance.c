#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

static char error[512];

/* of_limits: of `limits`. of_app: more keys of the pool app; of_route: of the route. */
static struct conf *parse(const char *of_limits, const char *of_app, const char *of_route)
{
    char text[2048];
    struct conf *conf = NULL;
    const struct conf_findings findings = {0};
    int n = snprintf(text, sizeof(text),
        "limits: {%s}\n"
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    routes:\n"
        "      - {path: /ws, kind: websocket%s}\n"
        "pools:\n"
        "  - {name: app, workers: ['unix:/run/app.sock']%s}\n"
        "  - {name: kept, workers: ['unix:/run/b.sock'], balance: hash, hash: conn, "
        "on_worker_lost: keep}\n"
        "  - {name: next, workers: ['unix:/run/next.sock', 'unix:/run/l-*.sock weight=3']}\n",
        of_limits, of_route, of_app);
    cr_assert((size_t)n < sizeof(text));
    error[0] = '\0';
    conf_try("c.yaml", text, (size_t)n, &findings, &conf, error, sizeof(error));
    return conf;
}

struct row {
    const char *app;
    const char *route;
    const char *error; /* NULL: it is right */
};

static void check_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        conf_free(parse("", rows[i].app, rows[i].route));
        if (rows[i].error == NULL)
            cr_expect_str_eq(error, "", "%zu: %s", i, error);
        else
            cr_expect_not_null(strstr(error, rows[i].error), "%zu: %s", i, error);
    }
}

Test(check_balance, on_worker_lost)
{
    static const struct row rows[] = {
        {"", ", pool: app", NULL},
        {", balance: hash, hash: conn, on_worker_lost: close", ", pool: app", NULL},
        {", balance: hash, hash: conn, on_worker_lost: keep", ", pool: app", NULL},
        {", balance: hash, hash: conn, on_worker_lost: other", ", pool: app",
            "8: pools[0].on_worker_lost: 'other' is not known here: it is keep or close"},
        {", balance: hash, hash: peer, on_worker_lost: keep", ", pool: app",
            "8: pools[0].on_worker_lost: it takes balance: hash with hash: conn"},
        {", on_worker_lost: keep", ", pool: app",
            "8: pools[0].on_worker_lost: it takes balance: hash with hash: conn"},
        {", balance: hash, hash: conn, on_worker_lost: keep", ", pools: [next, kept]", NULL},
        {", balance: hash, hash: conn, on_worker_lost: close", ", pools: [app, next, kept]",
            "6: listeners[0].routes[0].pools[2]: pools 'app' and 'kept' have on_worker_lost: a "
            "connection is bound to one worker"},
    };
    check_rows(rows, ARRAY_LEN(rows));
    struct conf *conf = parse(
        "", ", balance: hash, hash: conn, on_worker_lost: close", ", pool: app");
    cr_assert_not_null(conf, "%s", error);
    cr_expect_eq(conf->pools[0].on_worker_lost, CONF_LOST_CLOSE);
    cr_expect_eq(conf->pools[1].on_worker_lost, CONF_LOST_KEEP);
    cr_expect_eq(conf->pools[2].on_worker_lost, CONF_LOST_UNNOTED);
    conf_free(conf);
}

Test(check_balance, state)
{
    static const struct {
        const char *text;
        uint32_t state;
        const char *error;
    } rows[] = {
        {"", 4096, NULL},
        {"state: 0", 0, NULL},
        {"state: 64KiB", CONF_STATE_MAX, NULL},
        {"state: 65537", 0, "1: limits.state: at most 65536 bytes"},
        {"state: much", 0, "1: limits.state: not a size"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct conf *conf = parse(rows[i].text, "", ", pool: app");
        if (rows[i].error == NULL) {
            cr_assert_not_null(conf, "%s", error);
            cr_expect_eq(conf->limits.state, rows[i].state);
        } else {
            cr_expect_not_null(strstr(error, rows[i].error), "%s", error);
        }
        conf_free(conf);
    }
}

#define CANARY(more) ", pool: app, canary: {pool: next" more "}"
#define AT_CANARY    "6: listeners[0].routes[0].canary."

Test(check_balance, canary)
{
    static const struct row rows[] = {
        {"", CANARY(""), NULL},
        {"", CANARY(", percent: 0"), NULL},
        {"", CANARY(", percent: 100, header: X-Canary"), NULL},
        {"", CANARY(", percent: 101"), AT_CANARY "percent: not a number from 0 to 100: '101'"},
        {"", CANARY(", percent: -1"), AT_CANARY "percent: not a number from 0 to 100: '-1'"},
        {"", CANARY(", percent: 5%"), AT_CANARY "percent: not a number from 0 to 100: '5%'"},
        {"", CANARY(", header: a b"), AT_CANARY "header: not a token"},
        {"", CANARY(", header: ''"), AT_CANARY "header: not a token"},
        {"", ", pool: app, canary: {percent: 5}", AT_CANARY "pool: this key is needed here"},
        {"", ", pool: app, canary: {pool: app}",
            AT_CANARY "pool: 'app': the route has it for all clients"},
        {"", ", pools: [app, next], canary: {pool: next}",
            AT_CANARY "pool: 'next': the route has it for all clients"},
        {"", ", pool: app, canary: {pool: other}", AT_CANARY "pool: there is no pool 'other'"},
        {", realm: r", ", pool: app, canary: {pool: next}",
            "the pools of a route are of one realm"},
        {", balance: hash, hash: conn, on_worker_lost: close", ", pool: app, canary: {pool: kept}",
            "have on_worker_lost: a connection is bound to one worker"},
    };
    check_rows(rows, ARRAY_LEN(rows));
    struct conf *conf = parse("", "", CANARY(", percent: 7, header: X-Canary"));
    cr_assert_not_null(conf, "%s", error);
    const struct conf_route *route = &conf->listeners[0].routes[0];
    cr_expect(route->canary && route->npools == 2 && route->pools[1] == 2);
    cr_expect_eq(route->canary_percent, 7u);
    cr_expect_str_eq(route->canary_header, "x-canary");
    conf_free(conf);
}

Test(check_balance, weights)
{
    static const struct {
        const char *worker;
        uint32_t weight;
        const char *error;
    } rows[] = {
        {"unix:/run/x.sock weight=1", 1, NULL},
        {"unix:/run/x.sock   weight=100", 100, NULL},
        {"tcp://127.0.0.1:7000 weight=7", 7, NULL},
        {"tcp://worker.example:7000 weight=7", 7, NULL},
        {"unix:/run/x.sock weight=0", 0, "not a number from 1 to 100: '0'"},
        {"unix:/run/x.sock weight=101", 0, "not a number from 1 to 100: '101'"},
        {"unix:/run/x.sock weight=", 0, "not a number from 1 to 100: ''"},
        {"unix:/run/x.sock weight=2 x", 0, "not a number from 1 to 100: '2 x'"},
        {" weight=2", 0, "neither unix:/PATH nor tcp:// or tls://HOST:PORT"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[200];
        snprintf(text, sizeof(text), "}\n  - {name: more, workers: ['%s']", rows[i].worker);
        struct conf *conf = parse("", text, ", pool: app");
        if (rows[i].error != NULL) {
            cr_expect_null(conf);
            cr_expect_not_null(strstr(error, rows[i].error), "%zu: %s", i, error);
            continue;
        }
        cr_assert_not_null(conf, "%zu: %s", i, error);
        const struct conf_worker *worker = &conf->pools[1].workers[0];
        cr_expect_eq(worker->weight, rows[i].weight);
        size_t n = strlen(worker->text);
        cr_expect(strncmp(worker->text, rows[i].worker, n) == 0 && rows[i].worker[n] == ' ');
        cr_expect_eq(conf->pools[0].workers[0].weight, 1u);
        conf_free(conf);
    }
}
