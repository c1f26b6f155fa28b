#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/jwk_alg.h"
#include "frontd/config/parse.h"

static char error[512];

/* of_listener, of_route: lines of the keys of each. */
static struct conf *parse(const char *of_listener, const char *of_route)
{
    static char text[16384];
    struct conf *conf = NULL;
    const struct conf_findings findings = {0};
    int n = snprintf(text, sizeof(text),
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    %s\n"
        "    routes:\n"
        "      - {path: /, kind: http, pool: app}\n"
        "      - {path: /a, kind: http, pool: app%s}\n"
        "pools:\n"
        "  - {name: app, workers: ['unix:/run/app.sock']}\n",
        of_listener, of_route);
    cr_assert((size_t)n < sizeof(text));
    error[0] = '\0';
    conf_try("c.yaml", text, (size_t)n, &findings, &conf, error, sizeof(error));
    return conf;
}

#define JWT        "{jwks: /k.json, issuer: me, audience: [api]}"
#define WITH(more) "auth: {jwt: {jwks: /k.json, issuer: me, audience: [api], " more "}}"

/* Routes are in the order of their paths, the longest first. */
enum { AT_A, AT_ROOT };

Test(check_auth, by_default)
{
    size_t before = mem_in_use();
    struct conf *conf = parse("auth: {jwt: " JWT "}", "");
    cr_assert_not_null(conf, "%s", error);
    cr_assert_eq(conf->njwts, 1);
    const struct conf_jwt *jwt = conf->listeners[0].routes[AT_A].jwt;
    cr_assert(jwt == conf->jwts[0] && jwt == conf->listeners[0].routes[AT_ROOT].jwt);
    cr_expect_str_eq(jwt->jwks.path, "/k.json");
    cr_expect_eq(jwt->jwks.line, 4);
    cr_expect_str_eq(jwt->key, "listeners[0].auth.jwt");
    cr_expect_str_eq(jwt->issuer, "me");
    cr_expect(jwt->naudiences == 1 && strcmp(jwt->audiences[0], "api") == 0);
    cr_expect_eq(jwt->algorithms, 7);
    cr_expect_eq(jwt->leeway, 30000);
    cr_expect(jwt->bearer && strcmp(jwt->header, "authorization") == 0);
    cr_expect_null(jwt->query);
    cr_expect(jwt->cookie == NULL && !jwt->expires_close);
    cr_expect(jwt->nclaims == 1 && strcmp(jwt->claims[0], "sub") == 0);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(check_auth, of_a_route)
{
    struct conf *conf = parse("auth: {jwt: " JWT "}", ", auth: {none: true}");
    cr_assert_not_null(conf, "%s", error);
    cr_expect_null(conf->listeners[0].routes[AT_A].jwt);
    cr_expect_not_null(conf->listeners[0].routes[AT_ROOT].jwt);
    conf_free(conf);
    conf = parse("auth: {jwt: " JWT "}", ", auth: {jwt: {jwks: /o, issuer: o, audience: [o]}}");
    cr_assert_not_null(conf, "%s", error);
    cr_expect_str_eq(conf->listeners[0].routes[AT_A].jwt->issuer, "o");
    cr_expect_str_eq(conf->listeners[0].routes[AT_ROOT].jwt->issuer, "me");
    cr_expect_eq(conf->jwts[1]->number, 1);
    conf_free(conf);
    conf = parse("", ", auth: {jwt: " JWT "}");
    cr_assert_not_null(conf, "%s", error);
    cr_expect_null(conf->listeners[0].routes[AT_ROOT].jwt);
    cr_expect_str_eq(conf->jwts[0]->key, "listeners[0].routes[1].auth.jwt");
    conf_free(conf);
}

Test(check_auth, keys)
{
    struct conf *conf = parse(
        WITH("algorithms: [EdDSA, ES256], leeway: 0s, header: X-Token, query: access_token, "
             "cookie: __Host-token, expires: close, claims: []"),
        "");
    cr_assert_not_null(conf, "%s", error);
    const struct conf_jwt *jwt = conf->jwts[0];
    cr_expect_eq(jwt->algorithms, 1U << JWK_EDDSA | 1U << JWK_ES256);
    cr_expect_eq(jwt->leeway, 0);
    cr_expect(!jwt->bearer && strcmp(jwt->header, "x-token") == 0);
    cr_expect_str_eq(jwt->query, "access_token");
    cr_expect_str_eq(jwt->cookie, "__Host-token");
    cr_expect(jwt->expires_close);
    cr_expect_eq(jwt->nclaims, 0);
    conf_free(conf);
}

static void expect_wrong(const char *keys, const char *wrong)
{
    size_t before = mem_in_use();
    cr_expect_null(parse(keys, ""), "%s", keys);
    cr_expect_not_null(strstr(error, wrong), "%s: %s", keys, error);
    cr_expect_eq(mem_in_use(), before);
}

Test(check_auth, what_is_wrong)
{
    static const char *const rows[][2] = {
        {"auth: {}", "listeners[0].auth: either jwt or none: true"},
        {"auth: {none: false}", "either jwt or none: true"},
        {"auth: {none: maybe}", "auth.none"},
        {"auth: {none: true, jwt: " JWT "}", "either jwt or none: true"},
        {"auth: {jwt: {issuer: me, audience: [a]}}", "auth.jwt.jwks: this key is needed here"},
        {"auth: {jwt: {jwks: /k, audience: [a]}}", "auth.jwt.issuer: this key is needed here"},
        {"auth: {jwt: {jwks: /k, issuer: me}}", "auth.jwt.audience: a list with at least one"},
        {"auth: {jwt: {jwks: /k, issuer: me, audience: []}}", "a list with at least one"},
        {"auth: {jwt: {jwks: /k, issuer: me, audience: [a, a]}}", "audience[1]"},
        {"auth: {jwt: {jwks: k, issuer: me, audience: [a]}}", "'k': an absolute path"},
        {WITH("algorithms: [none]"), "algorithms[0]"},
        {WITH("algorithms: [HS256]"), "algorithms[0]"},
        {WITH("algorithms: [ES256, ES256]"), "algorithms[1]"},
        {WITH("algorithms: []"), "algorithms: there is none"},
        {WITH("leeway: soon"), "leeway"},
        {WITH("header: 'a b'"), "header"},
        {WITH("query: 'a&b'"), "query"},
        {WITH("cookie: 'a=b'"), "cookie"},
        {WITH("cookie: ''"), "cookie"},
        {WITH("expires: soon"), "expires"},
        {WITH("claims: ['a\"b']"), "claims[0]"},
        {WITH("claims: [sub, sub]"), "claims[1]"},
        {WITH("claims: ['']"), "claims[0]"},
        {WITH("key: x"), "unknown key"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        expect_wrong(rows[i][0], rows[i][1]);
}

static void keep(void *data, const char *text)
{
    snprintf(data, sizeof(error), "%s", text);
}

/* Which routes are warned of, since pages of any site may use them with a user's cookie. */
Test(check_auth, a_cookie_and_other_sites)
{
    static const struct {
        const char *route;
        bool warns;
    } rows[] = {
        {"kind: jsonrpc", false},
        {"kind: jsonrpc, cross_site: allow", true},
        {"kind: jsonrpc, cross_site: allow, origins: ['https://a.test']", true},
        {"kind: jsonrpc, origins: ['*']", false},
        {"kind: websocket", true},
        {"kind: websocket, cross_site: allow", true},
        {"kind: websocket, cross_site: refuse", false},
        {"kind: websocket, origins: ['https://a.test']", false},
        {"kind: websocket, origins: ['*']", true},
        {"kind: websocket, auth: {none: true}", false},
        {"kind: http", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char warned[sizeof(error)] = "";
        char text[1024];
        struct conf *conf = NULL;
        const struct conf_findings findings = {.odd = keep, .data = warned};
        int n = snprintf(text, sizeof(text),
            "listeners: [{name: web, address: '127.0.0.1:1', " WITH(
                "cookie: c") ", "
                             "routes: [{path: /, pool: app, %s}]}]\n"
                             "pools: [{name: app, workers: ['unix:/a']}]\n",
            rows[i].route);
        conf_try("c.yaml", text, (size_t)n, &findings, &conf, error, sizeof(error));
        cr_assert_not_null(conf, "%s: %s", rows[i].route, error);
        cr_expect_eq(strstr(warned, "pages of any site") != NULL, rows[i].warns, "%s: %s",
            rows[i].route, warned);
        conf_free(conf);
    }
}

/* Each list at its limit, and one past it. */
Test(check_auth, bounds)
{
    static const struct {
        const char *key;
        unsigned max;
    } rows[] = {{"audience", CONF_AUDIENCES_MAX}, {"claims", CONF_CLAIMS_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned n = rows[i].max; n <= rows[i].max + 1; n++) {
            char keys[2048];
            int at = snprintf(keys, sizeof(keys), "auth: {jwt: {jwks: /k, issuer: me, %s%s: [x",
                i == 0 ? "" : "audience: [a], ", rows[i].key);
            for (unsigned k = 1; k < n; k++)
                at += snprintf(keys + at, sizeof(keys) - (size_t)at, ", x%u", k);
            snprintf(keys + at, sizeof(keys) - (size_t)at, "]}}");
            struct conf *conf = parse(keys, "");
            cr_expect_eq(conf != NULL, n == rows[i].max, "%s: %s", rows[i].key, error);
            conf_free(conf);
        }
    }
}

Test(check_auth, not_of_other_protocols)
{
    static const char text[] = "listeners:\n"
                               "  - {name: raw, address: '127.0.0.1:1', protocol: line, pool: app, "
                               "auth: {none: true}}\n"
                               "pools: [{name: app, workers: ['unix:/a']}]\n";
    struct conf *conf = NULL;
    const struct conf_findings findings = {0};
    conf_try("c.yaml", text, sizeof(text) - 1, &findings, &conf, error, sizeof(error));
    cr_expect_null(conf);
    cr_expect_not_null(strstr(error, "listeners[0].auth: only for protocol: http"), "%s", error);
}
