#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

#define HTTP_REST "    routes: [{path: /, kind: http, pool: app}]"

/* What parses is conf_free()'d by the caller; NULL where it is refused, with what was said. */
static struct conf *parse(const char *listener, char *said, size_t size)
{
    struct conf *conf = NULL;
    char *all;
    size_t before = mem_in_use();
    int n = asprintf(&all,
        "listeners:\n  - name: web\n%s\npools:\n  - {name: app, workers: "
        "[\"unix:/run/app.sock\"]}\n",
        listener);
    cr_assert(n > 0);
    said[0] = '\0';
    int r = conf_parse("c.yaml", all, (size_t)n, &conf, said, size);
    free(all);
    cr_assert_eq(r == 0, conf != NULL);
    if (r < 0)
        cr_assert_eq(mem_in_use(), before, "%s", listener);
    return conf;
}

#define TCP  "    address: 127.0.0.1:1\n" /* 3 */
#define UNIX "    address: unix:/run/web.sock\n"
#define LINE "    protocol: line\n    pool: app\n"

static const struct {
    const char *text;
    const char *error; /* after "c.yaml:"; NULL: it is right */
} rows[] = {
    {TCP HTTP_REST, NULL},
    {TCP "    proxy_protocol: false\n    forwarded: none\n" HTTP_REST, NULL},
    {TCP "    proxy_protocol: true\n    trusted_proxies: [10.0.0.0/8]\n" HTTP_REST, NULL},
    {TCP "    forwarded: forwarded\n    trusted_proxies: [10.0.0.0/8]\n" HTTP_REST, NULL},
    {TCP "    forwarded: x-forwarded-for\n    proxy_protocol: true\n"
         "    trusted_proxies: [\"::1\", unix]\n" HTTP_REST,
        NULL},
    {TCP "    proxy_protocol: true\n    trusted_proxies: [0.0.0.0/0, \"::/0\"]\n" LINE, NULL},
    {UNIX "    proxy_protocol: true\n    trusted_proxies: [unix]\n" HTTP_REST, NULL},
    {UNIX "    forwarded: forwarded\n    trusted_proxies: [10.0.0.0/8, unix]\n" HTTP_REST, NULL},
    {TCP "    proxy_protocol: true\n" HTTP_REST,
        "4: listeners[0].proxy_protocol: needs trusted_proxies: from anybody else a client's "
        "address would be what it likes"},
    {TCP "    forwarded: x-forwarded-for\n    trusted_proxies: []\n" HTTP_REST,
        "4: listeners[0].forwarded: needs trusted_proxies: from anybody else a client's address "
        "would be what it likes"},
    {TCP "    trusted_proxies: [10.0.0.0/8]\n" HTTP_REST,
        "4: listeners[0].trusted_proxies: has no effect without proxy_protocol or forwarded"},
    {TCP "    trusted_proxies: []\n" HTTP_REST,
        "4: listeners[0].trusted_proxies: has no effect without proxy_protocol or forwarded"},
    {TCP "    proxy_protocol: v2\n" HTTP_REST,
        "4: listeners[0].proxy_protocol: 'v2' is not known here: it is false or true"},
    {TCP "    forwarded: X-Real-IP\n" HTTP_REST,
        "4: listeners[0].forwarded: 'X-Real-IP' is not known here: it is none, x-forwarded-for or "
        "forwarded"},
    {TCP "    forwarded: forwarded\n    trusted_proxies: [10.0.0.0/8]\n" LINE,
        "4: listeners[0].forwarded: only for protocol: http"},
    {TCP "    proxy_protocol: true\n    trusted_proxies: [10.0.0.0/8, 10.0.0.1/8]\n" HTTP_REST,
        "5: listeners[0].trusted_proxies[1]: '10.0.0.1/8': bits are set behind the prefix"},
    {TCP "    proxy_protocol: true\n    trusted_proxies: [balancer.example]\n" HTTP_REST,
        "5: listeners[0].trusted_proxies[0]: 'balancer.example': not an address or network such as "
        "192.0.2.7, 10.0.0.0/8 or 2001:db8::/32; or unix"},
    {TCP "    proxy_protocol: true\n    trusted_proxies: [unix]\n" HTTP_REST,
        "5: listeners[0].trusted_proxies: no address is there: 'unix' is for listeners on a UNIX "
        "socket"},
    {UNIX "    forwarded: forwarded\n    trusted_proxies: [10.0.0.0/8]\n" HTTP_REST,
        "5: listeners[0].trusted_proxies: on a UNIX socket the proxy is 'unix', which is not "
        "there"},
};

Test(conf_check_proxies, right_and_wrong)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char said[512];
        char wanted[512] = "";
        if (rows[i].error != NULL)
            snprintf(wanted, sizeof(wanted), "c.yaml:%s", rows[i].error);
        conf_free(parse(rows[i].text, said, sizeof(said)));
        cr_expect_str_eq(said, wanted, "%s\n%s\nshould be: %s", rows[i].text, said, wanted);
    }
}

Test(conf_check_proxies, values)
{
    char said[512];
    struct conf *conf = parse(TCP HTTP_REST, said, sizeof(said));
    cr_assert_not_null(conf);
    cr_expect_not(conf->listeners[0].proxy_protocol);
    cr_expect_eq(conf->listeners[0].forwarded, CONF_FORWARDED_NONE);
    cr_expect_eq(conf->listeners[0].ntrusted_proxies, 0);
    conf_free(conf);
    conf = parse(TCP "    proxy_protocol: true\n    forwarded: forwarded\n"
                     "    trusted_proxies: [10.0.0.0/8, \"2001:db8::1\"]\n" HTTP_REST,
        said, sizeof(said));
    cr_assert_not_null(conf, "%s", said);
    const struct conf_listener *listener = &conf->listeners[0];
    struct peer inside, outside;
    cr_expect(peer_parse(SPAN("2001:db8::1"), &inside) && peer_parse(SPAN("11.0.0.0"), &outside));
    cr_expect(listener->proxy_protocol);
    cr_expect_eq(listener->forwarded, CONF_FORWARDED_RFC7239);
    cr_assert_eq(listener->ntrusted_proxies, 2);
    cr_expect(peer_is_in(&inside, listener->trusted_proxies, 2));
    cr_expect_not(peer_is_in(&outside, listener->trusted_proxies, 2));
    conf_free(conf);
    conf = parse(TCP
        "    forwarded: x-forwarded-for\n    trusted_proxies: [10.0.0.0/8]\n" HTTP_REST,
        said, sizeof(said));
    cr_assert_not_null(conf, "%s", said);
    cr_expect_eq(conf->listeners[0].forwarded, CONF_FORWARDED_X);
    conf_free(conf);
}

Test(conf_check_proxies, how_many)
{
    for (unsigned over = 0; over <= 1; over++) {
        char said[512], text[8192];
        size_t n = (size_t)snprintf(
            text, sizeof(text), TCP "    proxy_protocol: true\n    trusted_proxies: [");
        for (unsigned i = 0; i < CONF_TRUSTED_MAX + over; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "10.0.%u.1,", i / 256);
        snprintf(text + n - 1, sizeof(text) - n + 1, "]\n" HTTP_REST);
        struct conf *conf = parse(text, said, sizeof(said));
        cr_expect_eq(conf != NULL, over == 0);
        cr_expect_str_eq(
            said, over == 0 ? "" : "c.yaml:5: listeners[0].trusted_proxies: at most 256");
        conf_free(conf);
    }
}
