#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/buf.h"
#include "frontd/config/parse.h"

static const char head[] = "listeners:\n"
                           "  - name: web\n"
                           "    address: 127.0.0.1:8443\n"; /* 3 */
static const char pools[] = "pools:\n"
                            "  - name: app\n"
                            "    workers: [\"unix:/run/app.sock\"]\n";
#define HTTP  "    routes: [{path: /, kind: http, pool: app, meta: [tls]}]\n"
#define FRAME "    protocol: frame\n    pool: app\n"
#define PAIR  "    tls:\n      certificates: [{cert: /a.pem, key: /a.key}]\n"

static void keep(void *data, const char *text)
{
    struct buf *said = data;
    cr_assert_eq(buf_append(said, text, strlen(text)), 0);
    cr_assert_eq(buf_append(said, "\n", 1), 0);
}

/* Returns the config, the caller's, or NULL; *said: warnings and the error, a line each. */
static struct conf *parse(const char *listener, char *said, size_t size)
{
    struct buf lines = {0};
    struct conf_findings findings = {.odd = keep, .data = &lines};
    struct conf *conf = NULL;
    char error[512] = "";
    char *all;
    int n = asprintf(&all, "%s%s%s", head, listener, pools);
    cr_assert(n > 0);
    int r = conf_try("c.yaml", all, (size_t)n, &findings, &conf, error, sizeof(error));
    free(all);
    cr_assert_eq(r == 0, conf != NULL);
    if (r < 0)
        keep(&lines, error);
    size_t len = lines.memory == NULL ? 0 : buf_len(&lines);
    snprintf(said, size, "%.*s", (int)(len > 0 ? len - 1 : 0), len > 0 ? buf_data(&lines) : "");
    buf_deinit(&lines);
    return conf;
}

static struct conf *parse_good(const char *listener)
{
    char said[1024];
    struct conf *conf = parse(listener, said, sizeof(said));
    cr_assert_not_null(conf, "%s\n%s", listener, said);
    cr_assert_str_eq(said, "", "%s", listener);
    return conf;
}

Test(check_tls, defaults_of_http)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(PAIR HTTP);
    const struct conf_tls *tls = conf->listeners[0].tls;
    cr_assert_not_null(tls);
    cr_expect_eq(tls->ncertificates, 1);
    cr_expect_str_eq(tls->certificates[0].cert.path, "/a.pem");
    cr_expect_eq(tls->certificates[0].cert.line, 5);
    cr_expect_str_eq(tls->certificates[0].key.path, "/a.key");
    cr_expect_eq(tls->min_version, CONF_TLS_1_2);
    cr_expect_eq(tls->client_auth, CONF_CLIENT_AUTH_NONE);
    cr_expect_null(tls->client_ca.path);
    cr_assert_eq(tls->nalpn, 2);
    cr_expect_str_eq(tls->alpn[0], "h2");
    cr_expect_str_eq(tls->alpn[1], "http/1.1");
    cr_expect_eq(tls->tickets, 12 * 3600 * 1000);
    cr_expect_eq(tls->handshake_timeout, 10 * 1000);
    cr_expect_eq(conf->listeners[0].routes[0].meta, CONF_META_TLS);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(check_tls, defaults_of_frame)
{
    struct conf *conf = parse_good(PAIR FRAME);
    cr_expect_eq(conf->listeners[0].tls->nalpn, 0);
    conf_free(conf);
    conf = parse_good(FRAME);
    cr_expect_null(conf->listeners[0].tls);
    conf_free(conf);
}

Test(check_tls, all_keys)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good("    tls:\n"
                                   "      certificates:\n"
                                   "        - {cert: /a.pem, key: /a.key}\n"
                                   "        - cert: /b.pem\n" /* 7 */
                                   "          key: /b.key\n"  /* 8 */
                                   "      min_version: 1.3\n"
                                   "      client_ca: /ca.pem\n" /* 10 */
                                   "      client_auth: optional\n"
                                   "      alpn: [mqtt, x]\n"
                                   "      tickets: off\n"
                                   "      handshake_timeout: 2s\n" FRAME "    meta: [peer, tls]\n");
    const struct conf_tls *tls = conf->listeners[0].tls;
    cr_assert_eq(tls->ncertificates, 2);
    cr_expect_str_eq(tls->certificates[1].key.path, "/b.key");
    cr_expect_eq(tls->certificates[1].cert.line, 7);
    cr_expect_eq(tls->certificates[1].key.line, 8);
    cr_expect_eq(tls->min_version, CONF_TLS_1_3);
    cr_expect_str_eq(tls->client_ca.path, "/ca.pem");
    cr_expect_eq(tls->client_ca.line, 10);
    cr_expect_eq(tls->client_auth, CONF_CLIENT_AUTH_OPTIONAL);
    cr_assert_eq(tls->nalpn, 2);
    cr_expect_str_eq(tls->alpn[1], "x");
    cr_expect_eq(tls->tickets, 0);
    cr_expect_eq(tls->handshake_timeout, 2000);
    cr_expect_eq(conf->listeners[0].routes[0].meta, CONF_META_PEER | CONF_META_TLS);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

#define TLS "c.yaml:6: listeners[0].tls."

Test(check_tls, what_is_wrong)
{
    static const struct {
        const char *keys; /* of line 6, with what follows */
        const char *said;
    } rows[] = {
        {"min_version: 1.1", TLS "min_version: '1.1' is not known here: it is 1.2 or 1.3"},
        {"client_auth: maybe",
            TLS "client_auth: 'maybe' is not known here: it is none, optional or required"},
        {"client_auth: required", TLS "client_auth: required needs client_ca"},
        {"client_auth: optional", TLS "client_auth: optional needs client_ca"},
        {"client_ca: /ca.pem",
            TLS "client_ca: it has no effect without client_auth: optional or required"},
        {"client_ca: ca.pem\n      client_auth: required",
            TLS "client_ca: 'ca.pem': an absolute path"},
        {"alpn: [h3]", TLS "alpn[0]: 'h3' is not known here: it is h2 or http/1.1"},
        {"alpn: [http/1.1, spdy]", TLS "alpn[1]: 'spdy' is not known here: it is h2 or http/1.1"},
        {"alpn: [http/1.1, http/1.1]", TLS "alpn[1]: 'http/1.1' is there twice"},
        {"alpn: []", ""},
        {"tickets: on", TLS "tickets: not a duration such as 500ms, 30s, 5m or 1h: 'on'"},
        {"tickets: 59s", TLS "tickets: off, or a lifetime of 1m to 168h"},
        {"tickets: 1m", ""},
        {"tickets: 168h", ""},
        {"tickets: 169h", TLS "tickets: off, or a lifetime of 1m to 168h"},
        {"tickets: 0s", TLS "tickets: off, or a lifetime of 1m to 168h"},
        {"handshake_timeout: 0s", TLS "handshake_timeout: must be more than 0"},
        {"ciphers: all", TLS "ciphers: unknown key: those here are certificates, min_version, "
                             "client_ca, client_auth, alpn, tickets, handshake_timeout"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[512];
        char said[1024];
        snprintf(text, sizeof(text), PAIR "      %s\n" HTTP, rows[i].keys);
        conf_free(parse(text, said, sizeof(said)));
        cr_expect_str_eq(said, rows[i].said, "%s: %s", rows[i].keys, said);
    }
}

#define HERE "c.yaml:4: listeners[0].tls"

Test(check_tls, what_is_wrong_with_certificates)
{
    static const struct {
        const char *tls;
        const char *said;
    } rows[] = {
        {"{}", HERE ".certificates: this key is needed here"},
        {"x", HERE ": keys with values are needed here"},
        {"{certificates: []}", HERE ".certificates: there is none"},
        {"{certificates: [{cert: /a}]}", HERE ".certificates[0].key: this key is needed here"},
        {"{certificates: [{key: /a}]}", HERE ".certificates[0].cert: this key is needed here"},
        {"{certificates: [{cert: a, key: /a}]}",
            HERE ".certificates[0].cert: 'a': an absolute path"},
        {"{certificates: [{cert: /a, key: a}]}",
            HERE ".certificates[0].key: 'a': an absolute path"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[512];
        char said[1024];
        snprintf(text, sizeof(text), "    tls: %s\n" HTTP, rows[i].tls);
        conf_free(parse(text, said, sizeof(said)));
        cr_expect_str_eq(said, rows[i].said, "%s: %s", rows[i].tls, said);
    }
}

/* n certificates of a listener of that many. */
static void check_count(unsigned n, const char *wanted)
{
    struct buf text = {0};
    char said[1024];
    cr_assert_eq(buf_append(&text, "    tls: {certificates: [", 25), 0);
    for (unsigned i = 0; i < n; i++)
        cr_assert_eq(buf_append(&text, "{cert: /a, key: /b},", 20), 0);
    cr_assert_eq(buf_append(&text, "]}\n" HTTP, sizeof("]}\n" HTTP)), 0);
    struct conf *conf = parse(buf_data(&text), said, sizeof(said));
    cr_expect_str_eq(said, wanted);
    conf_free(conf);
    buf_deinit(&text);
}

Test(check_tls, as_many_certificates_as_are_allowed_and_one_more)
{
    check_count(CONF_CERTIFICATES_MAX, "");
    check_count(CONF_CERTIFICATES_MAX + 1, HERE ".certificates: at most 256");
}

/* Over TLS it is ALPN that chooses HTTP/2. */
Test(check_tls, h2c)
{
    char said[512];
    conf_free(parse(PAIR "    h2c: false\n" HTTP, said, sizeof(said)));
    cr_expect_null(strstr(said, "h2c"), "%s", said);
    conf_free(parse(PAIR "    h2c: true\n" HTTP, said, sizeof(said)));
    cr_expect_str_eq(
        said, "c.yaml:6: listeners[0].h2c: not with tls: there clients choose h2 by alpn");
}

/* It needs HTTP/2. */
Test(check_tls, h2_websocket)
{
    static const char warning[] = "listeners[0].h2_websocket: no effect where clients cannot speak "
                                  "HTTP/2 (h2c, or tls.alpn)";
    char said[512];
    conf_free(parse(PAIR "    h2_websocket: true\n" HTTP, said, sizeof(said)));
    cr_expect_null(strstr(said, "h2_websocket"), "%s", said);
    conf_free(
        parse(PAIR "      alpn: [http/1.1]\n    h2_websocket: true\n" HTTP, said, sizeof(said)));
    cr_expect_not_null(strstr(said, warning), "%s", said);
    conf_free(parse("    h2c: true\n    h2_websocket: true\n" HTTP, said, sizeof(said)));
    cr_expect_null(strstr(said, "h2_websocket"), "%s", said);
    conf_free(parse("    h2_websocket: true\n" HTTP, said, sizeof(said)));
    cr_expect_not_null(strstr(said, warning), "%s", said);
}

Test(check_tls, alpn_of_other_protocols)
{
    char name[300];
    char text[1024];
    char said[1024];
    memset(name, 'a', sizeof(name));
    snprintf(text, sizeof(text), PAIR "      alpn: [%.255s]\n" FRAME, name);
    conf_free(parse(text, said, sizeof(said)));
    cr_expect_str_eq(said, "");
    snprintf(text, sizeof(text), PAIR "      alpn: [%.256s]\n" FRAME, name);
    conf_free(parse(text, said, sizeof(said)));
    cr_expect_str_eq(said, TLS "alpn[0]: the name of a protocol has 1 to 255 bytes");
    conf_free(parse(PAIR "      alpn: [1, 2, 3, 4, 5, 6, 7, 8]\n" FRAME, said, sizeof(said)));
    cr_expect_str_eq(said, "");
    conf_free(parse(PAIR "      alpn: [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" FRAME, said, sizeof(said)));
    cr_expect_str_eq(said, TLS "alpn: at most 8");
}

Test(check_tls, meta_on_a_plain_listener)
{
    char said[1024];
    conf_free(parse(HTTP, said, sizeof(said)));
    cr_expect_str_eq(said, "c.yaml:4: listeners[0].routes[0].meta[0]: tls has no effect on a "
                           "listener without tls");
    conf_free(parse(FRAME "    meta: [peer, tls]\n", said, sizeof(said)));
    cr_expect_str_eq(
        said, "c.yaml:6: listeners[0].meta[1]: tls has no effect on a listener without tls");
}

Test(check_tls, without_memory)
{
    struct conf *conf = NULL;
    long n = 0;
    size_t before = mem_in_use();
    for (; conf == NULL && n < 10000; n++) {
        char error[512];
        static const char text[] = "listeners:\n  - name: web\n    address: 127.0.0.1:8443\n" PAIR
                                   "      alpn: [http/1.1]\n" HTTP
                                   "pools: [{name: app, workers: [\"unix:/a\"]}]\n";
        mem_fail_after(n);
        int r = conf_parse("c.yaml", text, sizeof(text) - 1, &conf, error, sizeof(error));
        mem_fail_after(-1);
        cr_assert_eq(r == 0, conf != NULL);
        if (r < 0)
            cr_assert_eq(mem_in_use(), before, "allocation %ld: %s", n, error);
    }
    cr_assert_not_null(conf);
    conf_free(conf);
}
