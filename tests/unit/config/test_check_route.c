#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

static const char route_head[] = "listeners:\n"
                                 "  - name: web\n"
                                 "    address: 127.0.0.1:8080\n"
                                 "    routes:\n"
                                 "      - path: /ws\n"; /* 5 */
static const char listener_head[] = "listeners:\n"
                                    "  - name: devices\n"
                                    "    address: 127.0.0.1:7000\n"; /* 3 */
static const char tail[] = "\npools:\n"
                           "  - name: app\n"
                           "    workers: [\"unix:/run/app.sock\"]\n"
                           "  - name: site\n"
                           "    workers: [\"unix:/run/site.sock\"]\n";

/* What parses is conf_free()'d by the caller; NULL where it is refused, with what was said. */
static struct conf *parse(const char *head, const char *text, char *said, size_t size)
{
    char all[2048];
    struct conf *conf = NULL;
    size_t before = mem_in_use();
    int n = snprintf(all, sizeof(all), "%s%s%s", head, text, tail);
    cr_assert(n > 0 && (size_t)n < sizeof(all));
    said[0] = '\0';
    int r = conf_parse("c.yaml", all, (size_t)n, &conf, said, size);
    cr_assert_eq(r == 0, conf != NULL);
    if (r < 0) {
        cr_assert_eq(r, -EINVAL);
        cr_assert_eq(mem_in_use(), before, "%s", text);
    }
    return conf;
}

static struct conf *parse_good(const char *head, const char *text)
{
    char said[512];
    struct conf *conf = parse(head, text, said, sizeof(said));
    cr_assert_not_null(conf, "%s\n%s", text, said);
    return conf;
}

struct row {
    const char *text;
    const char *error; /* after "c.yaml:"; NULL: it is right */
};

static void check_rows(const char *head, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char said[512];
        char wanted[512] = "";
        if (rows[i].error != NULL)
            snprintf(wanted, sizeof(wanted), "c.yaml:%s", rows[i].error);
        conf_free(parse(head, rows[i].text, said, sizeof(said)));
        char *choices = strstr(said, ": it is ");
        if (choices == NULL)
            choices = strstr(said, ": those here are ");
        if (choices != NULL)
            *choices = '\0'; /* test_errors.c has them in full */
        cr_expect_str_eq(said, wanted, "%s\n%s\nshould be: %s", rows[i].text, said, wanted);
    }
}

Test(conf_check_route, websocket_defaults)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(route_head, "        kind: websocket\n        pool: site\n");
    const struct conf_listener *listener = &conf->listeners[0];
    cr_assert_eq(listener->protocol, CONF_PROTOCOL_HTTP);
    cr_assert_eq(listener->nroutes, 1);
    const struct conf_route *route = &listener->routes[0];
    cr_expect_eq(route->kind, CONF_WEBSOCKET);
    cr_expect_str_eq(route->path, "/ws");
    cr_assert_eq(route->npools, 1);
    cr_expect_eq(route->pools[0], 1);
    cr_expect_eq(route->timeout, 30000);
    cr_expect_eq(route->ping, 30000);
    cr_expect_eq(route->norigins, 0);
    cr_expect_eq(route->nprotocols, 0);
    cr_expect_not(route->raw);
    cr_expect_not(route->events);
    cr_expect_not(route->connect_ask);
    cr_expect_not(route->slow_drop);
    cr_expect_not(route->responses);
    cr_expect_eq(conf->limits.subscriptions, 64);
    cr_expect_eq(conf->limits.state, 4096);
    cr_expect(conf->limits.streams == 100 && !conf->listeners[0].h2c);
    cr_expect_not(conf->listeners[0].h2_websocket);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_route, websocket_keys)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(route_head,
        "        kind: websocket\n        host: Chat.Example\n        pools: [site, app]\n"
        "        timeout: 5s\n        meta: [peer, traceparent]\n        headers: [Cookie]\n"
        "        messages: raw\n        events: true\n        connect: ask\n        ping: 1500ms\n"
        "        slow: drop\n        origins: [\"https://Chat.Example:8443\", \"null\", \"*\"]\n"
        "        protocols: [chat.v2, Chat, chat]\n");
    const struct conf_route *route = &conf->listeners[0].routes[0];
    cr_expect_str_eq(route->host, "chat.example");
    cr_assert_eq(route->npools, 2);
    cr_expect_eq(route->pools[0], 1);
    cr_expect_eq(route->pools[1], 0);
    cr_expect_eq(route->timeout, 5000);
    cr_expect_eq(route->meta, CONF_META_PEER | CONF_META_TRACEPARENT);
    cr_assert_eq(route->nheaders, 1);
    cr_expect_str_eq(route->headers[0], "cookie");
    cr_expect(route->raw);
    cr_expect(route->events);
    cr_expect(route->connect_ask);
    cr_expect_eq(route->ping, 1500);
    cr_expect(route->slow_drop);
    cr_assert_eq(route->norigins, 3);
    cr_expect_str_eq(route->origins[0], "https://chat.example:8443");
    cr_expect_str_eq(route->origins[1], "null");
    cr_expect_str_eq(route->origins[2], "*");
    cr_assert_eq(route->nprotocols, 3);
    cr_expect_str_eq(route->protocols[0], "chat.v2");
    cr_expect_str_eq(route->protocols[1], "Chat", "case counts (RFC 6455 section 11.5)");
    cr_expect_str_eq(route->protocols[2], "chat");
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_route, websocket_errors)
{
#define WS "        kind: websocket\n        pool: app\n        "
#define AT "8: listeners[0].routes[0]."
    static const struct row rows[] = {
        {WS "messages: jsonrpc", NULL},
        {WS "messages: text", AT "messages: 'text' is not known here"},
        {WS "messages:", AT "messages: '' is not known here"},
        {WS "events: false", NULL},
        {WS "events: yes", AT "events: 'yes' is not known here"},
        {WS "events: [true]", AT "events: one value is needed here"},
        {WS "slow: close", NULL},
        {WS "slow: wait", AT "slow: 'wait' is not known here"},
        {WS "responses: true", NULL},
        {WS "responses: true\n        messages: jsonrpc", NULL},
        {WS "responses: false\n        messages: raw", NULL},
        {WS "responses: true\n        messages: raw", AT "responses: needs messages: jsonrpc"},
        {WS "responses: yes", AT "responses: 'yes' is not known here"},
        {WS "compression: true", NULL},
        {WS "compression: on", AT "compression: 'on' is not known here"},
        {WS "ping: 1ms", NULL},
        {WS "ping: 0s", AT "ping: must be more than 0"},
        {WS "connect: ask", AT "connect: needs events: true"},
        {WS "connect: notify", AT "connect: needs events: true"},
        {WS "connect: ask\n        events: false", AT "connect: needs events: true"},
        {WS "connect: ask\n        events: true", NULL},
        {WS "connect: notify\n        events: true", NULL},
        {WS "connect: maybe\n        events: true", AT "connect: 'maybe' is not known here"},
        {WS "origins: []", NULL},
        {WS "origins: https://a", AT "origins: a list is needed here"},
        {WS "origins:\n        - https://a\n        - a.example",
            "10: listeners[0].routes[0].origins[1]: not an origin such as https://www.example or "
            "https://www.example:8443: 'a.example'"},
        {WS "origins: [\"https://a:443\"]",
            AT "origins[0]: browsers leave out the port that is usual for the scheme: "
               "'https://a:443'"},
        {WS "protocols: []", NULL},
        {WS "protocols: [a, b c]",
            AT "protocols[1]: not a token: letters, digits and !#$%&'*+-.^_`|~: 'b c'"},
        {WS "protocols: [a, b, a]", AT "protocols[2]: 'a' is there twice"},
        {WS "protocols: {a: b}", AT "protocols: a list is needed here"},
        {WS "pools: [app]", "7: listeners[0].routes[0].pool: either pool or pools is needed here"},
        {WS "bogus: 1", AT "bogus: unknown key"},
    };
    check_rows(route_head, rows, ARRAY_LEN(rows));
}

Test(conf_check_route, only_for_websocket)
{
    static const char *const kinds[] = {"jsonrpc", "http"};
    static const char *const keys[] = {"messages: jsonrpc", "events: false", "connect: ask",
        "ping: 30s", "slow: close", "responses: true", "compression: true", "protocols: []"};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
            char text[256];
            char error[256];
            snprintf(text, sizeof(text), "        kind: %s\n        pool: app\n        %s",
                kinds[k], keys[i]);
            snprintf(error, sizeof(error),
                "8: listeners[0].routes[0].%.*s: only for kind: websocket",
                (int)strcspn(keys[i], ":"), keys[i]);
            const struct row row = {text, error};
            check_rows(route_head, &row, 1);
        }
    }
}

/* What requests are compared with, beside what was written. */
Test(conf_check_route, paths_and_hosts)
{
    static const struct {
        const char *path, *prefix, *host, *kept;
    } cases[] = {
        {"/a", "/a", "One.Test.", "one.test"},
        {"/a/", "/a/", "one.test", "one.test"},
        {"//a///b//", "/a/b/", "localhost.", "localhost"},
        {"/x/../%73ecret/.", "/secret/", "[::1]", "[::1]"},
        {"/a%20b", "/a b", "[::A]", "[::a]"},
        {"/%C3%A4", "/\xc3\xa4", "a..", "a."},
        {"/\xc3\xa4", "/\xc3\xa4", "*", "*"},
        {"/rpc/*", "/rpc/*", "127.0.0.1", "127.0.0.1"},
        {"/..", NULL, "a", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[256], said[512];
        snprintf(text, sizeof(text),
            "    paths: strict\n    routes: [{path: \"%s\", host: \"%s\", kind: http, pool: app}]",
            cases[i].path, cases[i].host);
        struct conf *conf = parse(listener_head, text, said, sizeof(said));
        cr_assert_eq(conf != NULL, cases[i].prefix != NULL, "%s: %s", cases[i].path, said);
        if (conf == NULL)
            continue;
        const struct conf_route *route = &conf->listeners[0].routes[0];
        cr_expect_str_eq(route->path, cases[i].path);
        cr_expect_str_eq(route->prefix, cases[i].prefix);
        cr_expect_eq(route->prefix_len, strlen(cases[i].prefix));
        cr_expect_str_eq(route->host, cases[i].kept);
        cr_expect(conf->listeners[0].paths_strict);
        conf_free(conf);
    }
}

/* By what is compared, not by what was written. */
Test(conf_check_route, longest_first)
{
    struct conf *conf = parse_good(listener_head,
        "    routes:\n      - {path: /x/y/z/../../../a, kind: http, pool: app}\n"
        "      - {path: /a/b, kind: http, pool: app}\n"
        "      - {path: /a/b/%63d, kind: http, pool: app}\n"
        "      - {path: /a/b/c/d, kind: http, pool: app}");
    static const char *const order[] = {"/a/b/c/d", "/a/b/cd", "/a/b", "/a"};
    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        cr_expect_str_eq(conf->listeners[0].routes[i].prefix, order[i]);
    conf_free(conf);
}

Test(conf_check_route, stream_defaults)
{
    static const struct {
        const char *text;
        enum conf_protocol protocol;
    } cases[] = {
        {"    protocol: frame\n    pool: app\n", CONF_PROTOCOL_FRAME},
        {"    protocol: line\n    pool: app\n", CONF_PROTOCOL_LINE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t before = mem_in_use();
        struct conf *conf = parse_good(listener_head, cases[i].text);
        const struct conf_listener *listener = &conf->listeners[0];
        cr_expect_eq(listener->protocol, cases[i].protocol);
        cr_assert_eq(listener->nroutes, 1);
        const struct conf_route *route = &listener->routes[0];
        cr_expect_eq(route->kind, CONF_STREAM);
        cr_expect_str_eq(route->path, "/");
        cr_expect_eq(route->path_len, 1);
        cr_expect_null(route->host);
        cr_assert_eq(route->npools, 1);
        cr_expect_eq(route->pools[0], 0);
        cr_expect_eq(route->timeout, 30000);
        cr_expect_eq(route->ping, 30000);
        cr_expect_eq(route->meta, 0);
        cr_expect_not(route->raw);
        cr_expect_not(route->events);
        cr_expect_not(route->connect_ask);
        cr_expect_not(route->slow_drop);
        cr_expect_not(route->responses);
        conf_free(conf);
        cr_expect_eq(mem_in_use(), before);
    }
}

Test(conf_check_route, stream_keys)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(listener_head,
        "    protocol: frame\n    pools: [site, app]\n    timeout: 5s\n"
        "    meta: [peer, deadline, route]\n    messages: raw\n    events: true\n"
        "    connect: ask\n    ping: 2m\n    slow: drop\n");
    const struct conf_route *route = &conf->listeners[0].routes[0];
    cr_assert_eq(route->npools, 2);
    cr_expect_eq(route->pools[0], 1);
    cr_expect_eq(route->pools[1], 0);
    cr_expect_eq(route->timeout, 5000);
    cr_expect_eq(route->meta, CONF_META_PEER | CONF_META_DEADLINE | CONF_META_ROUTE);
    cr_expect(route->raw);
    cr_expect(route->events);
    cr_expect(route->connect_ask);
    cr_expect_eq(route->ping, 120000);
    cr_expect(route->slow_drop);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_route, responses)
{
    struct conf *conf = parse_good(
        route_head, "        kind: websocket\n        pool: app\n        responses: true\n");
    cr_expect(conf->listeners[0].routes[0].responses);
    conf_free(conf);
    conf = parse_good(listener_head, "    protocol: line\n    pool: app\n    responses: true\n");
    cr_expect(conf->listeners[0].routes[0].responses);
    conf_free(conf);
}

Test(conf_check_route, stream_errors)
{
#define LINE  "    protocol: line\n    pool: app\n    "
#define HTTP  "    protocol: http\n    routes: [{path: /, kind: http, pool: app}]\n    "
#define STAYS "6: listeners[0]."
    static const struct row rows[] = {
        {"    protocol: line", "2: listeners[0].pool: either pool or pools is needed here"},
        {LINE "pools: [app]", "5: listeners[0].pool: either pool or pools is needed here"},
        {"    protocol: line\n    pool: ap", "5: listeners[0].pool: there is no pool 'ap'"},
        {"    protocol: line\n    pools: [app, b]",
            "5: listeners[0].pools[1]: there is no pool 'b'"},
        {LINE "routes: []", STAYS "routes: only for protocol: http"},
        {LINE "routes: [{path: /, kind: http, pool: app}]",
            STAYS "routes: only for protocol: http"},
        {LINE "paths: any", STAYS "paths: only for protocol: http"},
        {LINE "h2c: false", STAYS "h2c: only for protocol: http"},
        {LINE "h2_websocket: true", STAYS "h2_websocket: only for protocol: http"},
        {LINE "timeout: 0s", STAYS "timeout: must be more than 0"},
        {LINE "ping: 0s", STAYS "ping: must be more than 0"},
        {LINE "messages: text", STAYS "messages: 'text' is not known here"},
        {LINE "events: 1", STAYS "events: '1' is not known here"},
        {LINE "slow: 1", STAYS "slow: '1' is not known here"},
        {LINE "connect: ask", STAYS "connect: needs events: true"},
        {LINE "responses: 1", STAYS "responses: '1' is not known here"},
        {LINE "responses: true\n    messages: raw", STAYS "responses: needs messages: jsonrpc"},
        {LINE "meta: [traceparent]",
            STAYS "meta[0]: traceparent: there are no request headers here"},
        {LINE "meta: [tls]", NULL},
        {LINE "headers: [a]", STAYS "headers: unknown key"},
        {LINE "host: a", STAYS "host: unknown key"},
        {LINE "origins: []", STAYS "origins: unknown key"},
        {LINE "protocols: []", STAYS "protocols: unknown key"},
        {LINE "tls: {}", STAYS "tls.certificates: this key is needed here"},
        {"    protocol: websocket\n    pool: app",
            "4: listeners[0].protocol: 'websocket' is not known here"},
        {HTTP "pool: app", STAYS "pool: only for protocol: frame and line"},
        {HTTP "pools: []", STAYS "pools: only for protocol: frame and line"},
        {HTTP "timeout: 1s", STAYS "timeout: only for protocol: frame and line"},
        {HTTP "meta: []", STAYS "meta: only for protocol: frame and line"},
        {HTTP "messages: raw", STAYS "messages: only for protocol: frame and line"},
        {HTTP "events: true", STAYS "events: only for protocol: frame and line"},
        {HTTP "connect: ask", STAYS "connect: only for protocol: frame and line"},
        {HTTP "ping: 1s", STAYS "ping: only for protocol: frame and line"},
        {HTTP "slow: drop", STAYS "slow: only for protocol: frame and line"},
        {HTTP "responses: true", STAYS "responses: only for protocol: frame and line"},
        {"    pool: app", "4: listeners[0].pool: only for protocol: frame and line"},
    };
    check_rows(listener_head, rows, ARRAY_LEN(rows));
}

/* Of bodies and answers in parts. */
Test(check_route, streams)
{
    static const struct row rows[] = {
        {"        kind: http\n        pool: app\n        stream_body: 1048577\n", NULL},
        {"        kind: http\n        pool: app\n        stream_body: 1024GiB\n", NULL},
        {"        kind: http\n        pool: app\n        stream_body: 1MiB\n",
            "8: listeners[0].routes[0].stream_body: must be more than limits.body, 1048576 bytes"},
        {"        kind: http\n        pool: app\n        stream_body: 1025GiB\n",
            "8: listeners[0].routes[0].stream_body: not a size such as 256MiB or 4GiB, at most "
            "1024GiB: '1025GiB'"},
        {"        kind: http\n        pool: app\n        stream_body: much\n",
            "8: listeners[0].routes[0].stream_body: not a size such as 256MiB or 4GiB, at most "
            "1024GiB: 'much'"},
        {"        kind: jsonrpc\n        pool: app\n        stream_body: 2MiB\n",
            "8: listeners[0].routes[0].stream_body: only for kind: http"},
        {"        kind: websocket\n        pool: app\n        stream_timeout: 2s\n",
            "8: listeners[0].routes[0].stream_timeout: only for kind: http"},
        {"        kind: http\n        pool: app\n        stream_timeout: 0s\n", NULL},
        {"        kind: http\n        pool: app\n        progress: true\n",
            "8: listeners[0].routes[0].progress: only for kind: jsonrpc and websocket"},
        {"        kind: jsonrpc\n        pool: app\n        progress: 1\n",
            "8: listeners[0].routes[0].progress: '1' is not known here"},
        {"        kind: jsonrpc\n        pool: app\n        progress: true\n", NULL},
        {"        kind: websocket\n        pool: app\n        progress: true\n", NULL},
    };
    check_rows(route_head, rows, ARRAY_LEN(rows));
    struct conf *conf = parse_good(route_head, rows[0].text);
    cr_expect(conf->streams_bodies && conf->listeners[0].routes[0].stream_body == 1048577);
    cr_expect_eq(conf->listeners[0].routes[0].stream_timeout, 60000u);
    conf_free(conf);
    conf = parse_good(route_head, rows[7].text);
    cr_expect(!conf->streams_bodies && conf->listeners[0].routes[0].stream_timeout == 0);
    conf_free(conf);
}
