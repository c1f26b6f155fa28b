#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"

/* keys: of the listener. Returns the config, or NULL with what is wrong in `error`. */
static struct conf *parse(const char *keys, char *error, size_t size)
{
    static char text[65536];
    struct conf *conf = NULL;
    const struct conf_findings findings = {0};
    int n = snprintf(text, sizeof(text),
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    %s\n"
        "    routes: [{path: /, kind: http, pool: app}]\n"
        "pools:\n"
        "  - {name: app, workers: ['unix:/run/app.sock']}\n",
        keys);
    cr_assert((size_t)n < sizeof(text));
    error[0] = '\0';
    conf_try("c.yaml", text, (size_t)n, &findings, &conf, error, size);
    return conf;
}

static bool admits(const struct conf_access *access, const char *text)
{
    struct peer peer = {.family = AF_UNIX};
    if (strcmp(text, "unix") != 0)
        cr_assert(peer_parse((struct span){text, strlen(text)}, &peer), "%s", text);
    return conf_admits(access, &peer);
}

Test(check_access, who_is_let_in)
{
    static const struct {
        const char *keys;
        const char *in[4], *out[4];
    } rows[] = {
        {"", {"192.0.2.1", "2001:db8::1", "unix"}, {NULL}},
        {"deny: [192.0.2.0/24]", {"192.0.3.0", "192.0.1.255", "::1"}, {"192.0.2.0", "192.0.2.255"}},
        {"allow: [192.0.2.0/24]", {"192.0.2.0", "192.0.2.255"}, {"192.0.3.0", "::1", "unix"}},
        {"allow: [10.0.0.0/8, 10.9.8.0/24]\n    deny: [10.9.0.0/16]", {"10.1.1.1", "10.9.8.7"},
            {"10.9.9.9", "11.0.0.0"}},
        {"allow: [10.9.0.0/16]\n    deny: [0.0.0.0/0]", {"10.9.1.1"}, {"10.8.1.1", "::1"}},
        {"deny: ['::/0', unix]", {"192.0.2.1"}, {"::1", "2001:db8::1", "unix"}},
        {"allow: [unix, '2001:db8::/32']", {"unix", "2001:db8::1"}, {"2001:db9::1", "127.0.0.1"}},
        {"deny: [192.0.2.7]", {"192.0.2.6", "192.0.2.8"}, {"192.0.2.7", "::ffff:192.0.2.7"}},
    };
    size_t before = mem_in_use();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[512];
        struct conf *conf = parse(rows[i].keys, error, sizeof(error));
        cr_assert_not_null(conf, "%s: %s", rows[i].keys, error);
        const struct conf_access *access = &conf->listeners[0].access;
        for (size_t j = 0; j < 4 && rows[i].in[j] != NULL; j++)
            cr_expect(admits(access, rows[i].in[j]), "%s: %s", rows[i].keys, rows[i].in[j]);
        for (size_t j = 0; j < 4 && rows[i].out[j] != NULL; j++)
            cr_expect_not(admits(access, rows[i].out[j]), "%s: %s", rows[i].keys, rows[i].out[j]);
        conf_free(conf);
    }
    cr_expect_eq(mem_in_use(), before);
}

Test(check_access, errors)
{
    static const struct {
        const char *keys, *error;
    } rows[] = {
        {"allow: [10.0.0.1/8]", "listeners[0].allow[0]: '10.0.0.1/8'"},
        {"deny: [localhost]", "listeners[0].deny[0]: 'localhost'"},
        {"allow: [10.0.0.0/8]\n    deny: [10.0.0.0/8]", "listeners[0].deny[0]: '10.0.0.0/8' is in"},
        {"allow: ['::1', '::1/128']", "listeners[0].allow[1]: '::1/128' is in"},
        {"allow: 10.0.0.0/8", "a list is needed here"},
        {"allow: []", "listeners[0].allow: nobody is in it"},
        {"allow: []\n    deny: ['::1']", "listeners[0].allow: nobody is in it"},
    };
    size_t before = mem_in_use();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[512];
        struct conf *conf = parse(rows[i].keys, error, sizeof(error));
        cr_expect(
            conf == NULL && strstr(error, rows[i].error) != NULL, "%s: %s", rows[i].keys, error);
        conf_free(conf);
    }
    cr_expect_eq(mem_in_use(), before);
}

/* At the limit, and one past it. */
Test(check_access, many)
{
    static char keys[32768];
    for (unsigned past = 0; past < 2; past++) {
        char error[512];
        size_t n = (size_t)snprintf(keys, sizeof(keys), "allow: [unix");
        for (unsigned i = 1; i < CONF_ACCESS_MAX; i++)
            n += (size_t)snprintf(keys + n, sizeof(keys) - n, ", 10.%u.%u.1", i / 256, i % 256);
        snprintf(keys + n, sizeof(keys) - n, "]%s", past ? "\n    deny: ['::1']" : "");
        struct conf *conf = parse(keys, error, sizeof(error));
        cr_expect_eq(conf == NULL, past == 1, "%s", error);
        cr_expect(past == 0 || strstr(error, "at most 1024 networks") != NULL, "%s", error);
        conf_free(conf);
    }
}
