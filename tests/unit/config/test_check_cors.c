#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

static const char before_keys[] = "listeners:\n"
                                  "  - name: web\n"
                                  "    address: 127.0.0.1:8080\n"
                                  "    routes:\n"
                                  "      - path: /rpc\n"; /* 5 */
static const char tail[] = "\npools:\n"
                           "  - name: app\n"
                           "    workers: [\"unix:/run/app.sock\"]\n";

/* What parses is conf_free()'d by the caller; NULL where it is refused, with what was said. */
static struct conf *parse(const char *keys, char *said, size_t size)
{
    struct conf *conf = NULL;
    char *all;
    size_t before = mem_in_use();
    int n = asprintf(&all, "%s%s%s", before_keys, keys, tail);
    cr_assert(n > 0);
    said[0] = '\0';
    int r = conf_parse("c.yaml", all, (size_t)n, &conf, said, size);
    free(all);
    cr_assert_eq(r == 0, conf != NULL);
    if (r < 0) {
        cr_assert_eq(r, -EINVAL);
        cr_assert_eq(mem_in_use(), before, "%s", keys);
    }
    return conf;
}

static struct conf *parse_good(const char *keys)
{
    char said[512];
    struct conf *conf = parse(keys, said, sizeof(said));
    cr_assert_not_null(conf, "%s\n%s", keys, said);
    return conf;
}

struct row {
    const char *text;
    const char *error; /* after "c.yaml:"; NULL: it is right */
};

static void check_rows(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char said[512];
        char wanted[512] = "";
        if (rows[i].error != NULL)
            snprintf(wanted, sizeof(wanted), "c.yaml:%s", rows[i].error);
        conf_free(parse(rows[i].text, said, sizeof(said)));
        cr_expect_str_eq(said, wanted, "%s\n%s\nshould be: %s", rows[i].text, said, wanted);
    }
}

static void expect_text(struct span got, const char *wanted)
{
    cr_expect(got.n == strlen(wanted) && memcmp(got.p, wanted, got.n) == 0, "%.*s\nshould be: %s",
        (int)got.n, got.p, wanted);
}

#define RPC  "        kind: jsonrpc\n        pool: app\n        " /* 7 */
#define WS   "        kind: websocket\n        pool: app\n        "
#define HTTP "        kind: http\n        pool: app\n        "
#define AT   "8: listeners[0].routes[0]."
#define GOOD "origins: [\"https://good.example\"]\n        " /* 8 */

Test(conf_check_cors, defaults)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(RPC);
    const struct conf_route *route = &conf->listeners[0].routes[0];
    cr_expect_eq(route->norigins, 0);
    cr_expect(route->cross_site_refuse);
    cr_expect_null(route->cors.fields);
    conf_free(conf);
    conf = parse_good(WS);
    cr_expect_not(conf->listeners[0].routes[0].cross_site_refuse);
    conf_free(conf);

    conf = parse_good(RPC GOOD);
    route = &conf->listeners[0].routes[0];
    cr_assert_eq(route->norigins, 1);
    expect_text(route->cors.fields[0],
        "Access-Control-Allow-Origin: https://good.example\r\nVary: Origin\r\n");
    expect_text(route->cors.fields[1], "Vary: Origin\r\n");
    expect_text(route->cors.preflight, "Access-Control-Allow-Methods: POST\r\n"
                                       "Access-Control-Allow-Headers: content-type\r\n"
                                       "Access-Control-Max-Age: 600\r\n");
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_cors, keys)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(
        RPC "origins: [\"https://A.Example\", \"http://localhost:3000\"]\n"
            "        cross_site: allow\n"
            "        cors: {headers: [Content-Type, X-Tag, authorization], credentials: true, "
            "max_age: 2h}\n");
    const struct conf_route *route = &conf->listeners[0].routes[0];
    cr_expect_not(route->cross_site_refuse);
    cr_assert_eq(route->norigins, 2);
    expect_text(route->cors.fields[0],
        "Access-Control-Allow-Origin: https://a.example\r\n"
        "Access-Control-Allow-Credentials: true\r\nVary: Origin\r\n");
    expect_text(route->cors.fields[1],
        "Access-Control-Allow-Origin: http://localhost:3000\r\n"
        "Access-Control-Allow-Credentials: true\r\nVary: Origin\r\n");
    expect_text(route->cors.fields[2], "Vary: Origin\r\n");
    expect_text(route->cors.preflight,
        "Access-Control-Allow-Methods: POST\r\n"
        "Access-Control-Allow-Headers: content-type, X-Tag, authorization\r\n"
        "Access-Control-Max-Age: 7200\r\n");
    conf_free(conf);

    conf = parse_good(RPC "origins: [\"null\", \"*\"]\n        cors: {headers: [\"*\"]}\n");
    route = &conf->listeners[0].routes[0];
    expect_text(route->cors.fields[0], "Access-Control-Allow-Origin: null\r\nVary: Origin\r\n");
    expect_text(route->cors.fields[1], "Access-Control-Allow-Origin: *\r\nVary: Origin\r\n");
    conf_free(conf);

    conf = parse_good(WS "cross_site: refuse");
    cr_expect(conf->listeners[0].routes[0].cross_site_refuse);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_cors, errors)
{
    static const char both[] = AT "cross_site: only for kind: jsonrpc and websocket";
    static const struct row rows[] = {
        {RPC "origins: []", NULL},
        {RPC "origins: https://a", AT "origins: a list is needed here"},
        {RPC "origins: [a.example]", AT "origins[0]: not an origin such as https://www.example or "
                                        "https://www.example:8443: 'a.example'"},
        {RPC "origins: [\"https://*.example\"]",
            AT "origins[0]: an origin is written in full, or '*' for any: 'https://*.example'"},
        {RPC "origins: [\"https://a\", \"http://a\", \"HTTPS://A\"]",
            AT "origins[2]: 'HTTPS://A' is there twice"},
        {WS "origins: [\"*\", \"*\"]", AT "origins[1]: '*' is there twice"},
        {HTTP "origins: []", AT "origins: only for kind: jsonrpc and websocket"},
        {RPC "cross_site: refuse", NULL},
        {RPC "cross_site: allow", NULL},
        {RPC GOOD "cross_site: allow", NULL},
        {RPC "cross_site: maybe",
            AT "cross_site: 'maybe' is not known here: it is refuse or allow"},
        {HTTP "cross_site: refuse", both},
        {WS "cross_site: allow", NULL},
        {WS "cross_site: refuse\n        origins: []", NULL},
        {WS GOOD "cross_site: refuse",
            "9: listeners[0].routes[0].cross_site: on a websocket route `origins` says it already"},
        {RPC "cors: {}", AT "cors: needs `origins`"},
        {RPC "origins: []\n        cors: {}", "9: listeners[0].routes[0].cors: needs `origins`"},
        {RPC "cors: true", AT "cors: keys with values are needed here"},
        {HTTP "cors: {}", AT "cors: only for kind: jsonrpc"},
        {WS "cors: {}", AT "cors: only for kind: jsonrpc"},
        {RPC GOOD "cors: {}", NULL},
        {RPC GOOD "cors: {methods: [POST]}", "9: listeners[0].routes[0].cors.methods: unknown key: "
                                             "those here are headers, credentials, max_age"},
        {RPC GOOD "cors: {credentials: false}", NULL},
        {RPC GOOD "cors: {credentials: yes}", "9: listeners[0].routes[0].cors.credentials: 'yes' "
                                              "is not known here: it is false or true"},
        {RPC "cors: {credentials: true}\n        origins: [\"https://a\", \"*\"]",
            AT "cors.credentials: '*' among `origins` is a page of anybody's: name those that get "
               "credentials"},
        {RPC "cors: {credentials: true}\n        origins: [\"null\"]",
            AT "cors.credentials: 'null' among `origins` is a page of anybody's: name those that "
               "get credentials"},
        {RPC "cors: {credentials: true, headers: [\"*\"]}\n        origins: [\"https://a\"]",
            AT "cors.credentials: with credentials, browsers take no '*' in `headers`"},
        {RPC GOOD "cors: {headers: []}", NULL},
        {RPC GOOD "cors: {headers: x-tag}",
            "9: listeners[0].routes[0].cors.headers: a list is needed here"},
        {RPC GOOD "cors: {headers: [x-tag, \"x tag\"]}",
            "9: listeners[0].routes[0].cors.headers[1]: not a token: letters, digits and "
            "!#$%&'*+-.^_`|~: 'x tag'"},
        {RPC GOOD "cors: {headers: [x-tag, X-Tag]}",
            "9: listeners[0].routes[0].cors.headers[1]: 'X-Tag' is there twice"},
        {RPC GOOD "cors: {max_age: 0s}", NULL},
        {RPC GOOD "cors: {max_age: 1000ms}", NULL},
        {RPC GOOD "cors: {max_age: 24h}", NULL},
        {RPC GOOD "cors: {max_age: 86401s}",
            "9: listeners[0].routes[0].cors.max_age: whole seconds, at most 24h: '86401s'"},
        {RPC GOOD "cors: {max_age: 1500ms}",
            "9: listeners[0].routes[0].cors.max_age: whole seconds, at most 24h: '1500ms'"},
        {RPC GOOD "cors: {max_age: 600}",
            "9: listeners[0].routes[0].cors.max_age: not a duration such as 500ms, 30s, 5m or 1h: "
            "'600'"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}

/* A list of n texts of a name and a number, with `start` before it. */
static char *list_of(const char *start, const char *name, int n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    cr_assert_not_null(file);
    fprintf(file, "%s[", start);
    for (int i = 0; i < n; i++) {
        fprintf(file, "%s\"%s%d\"", i == 0 ? "" : ", ", name, i);
    }
    fprintf(file, "]");
    fclose(file);
    return text;
}

static void check_list(const char *start, const char *name, int n, const char *error)
{
    char *text = list_of(start, name, n);
    const struct row row = {text, error};
    check_rows(&row, 1);
    free(text);
}

Test(conf_check_cors, lengths_of_lists)
{
    static const char headers[] = RPC GOOD "cors:\n          headers: ";
    check_list(RPC "origins: ", "https://a", CONF_ORIGINS_MAX, NULL);
    check_list(RPC "origins: ", "https://a", CONF_ORIGINS_MAX + 1, AT "origins: at most 256");
    check_list(WS "origins: ", "https://a", CONF_ORIGINS_MAX, NULL);
    check_list(WS "origins: ", "https://a", CONF_ORIGINS_MAX + 1, AT "origins: at most 256");
    check_list(headers, "x-", CONF_CORS_HEADERS_MAX, NULL);
    check_list(headers, "x-", CONF_CORS_HEADERS_MAX + 1,
        "10: listeners[0].routes[0].cors.headers: at most 64");
}

Test(conf_check_cors, lengths_of_texts)
{
    static char filler[512];
    memset(filler, 'a', sizeof(filler) - 1);
    char *text;
    for (int past = 0; past <= 1; past++) {
        cr_assert(asprintf(&text, RPC "origins: [\"https://%.*s\"]",
                      CONF_ORIGIN_BYTES_MAX - 8 + past, filler) > 0);
        const struct row origin = {text, past ? AT "origins[0]: at most 300 bytes" : NULL};
        check_rows(&origin, 1);
        free(text);
        cr_assert(asprintf(&text, RPC GOOD "cors: {headers: [%.*s]}",
                      CONF_CORS_HEADER_BYTES_MAX + past, filler) > 0);
        const struct row header = {
            text, past ? "9: listeners[0].routes[0].cors.headers[0]: at most 64 bytes" : NULL};
        check_rows(&header, 1);
        free(text);
    }
}

/* Each allocation fails in its turn: it is said, and nothing leaks. */
Test(conf_check_cors, without_memory)
{
    static const char keys[] = RPC
        "origins: [\"https://a\", \"https://b\"]\n"
        "        cors: {headers: [x-tag], credentials: true, max_age: 1h}\n";
    char said[512];
    char *text;
    const int size = asprintf(&text, "%s%s%s", before_keys, keys, tail);
    cr_assert(size > 0);
    size_t before = mem_in_use();
    bool all = false;
    for (long n = 0; !all; n++) {
        struct conf *conf = NULL;
        cr_assert_lt(n, 10000);
        mem_fail_after(n);
        int r = conf_parse("c", text, (size_t)size, &conf, said, sizeof(said));
        void *probe = mem_zalloc(1);
        all = probe == NULL; /* it took exactly n: the next one is the first to fail */
        mem_free(probe);
        mem_fail_after(-1);
        cr_assert_eq(r, all ? 0 : -EINVAL, "allocation %ld: %s", n, said);
        cr_assert(all || strstr(said, ": config: no memory") != NULL, "%ld: %s", n, said);
        conf_free(conf);
        cr_assert_eq(mem_in_use(), before, "allocation %ld", n);
    }
    free(text);
}
