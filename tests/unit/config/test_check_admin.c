#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/config/parse.h"
#include "frontd/config/value.h"

static char warned[512];

static void keep(void *data, const char *text)
{
    (void)data;
    snprintf(warned, sizeof(warned), "%s", text);
}

#define BASE                                                                                       \
    "listeners:\n"                                                                                 \
    "  - {name: web, address: '127.0.0.1:8080', protocol: http, routes: [{path: /, kind: http, "   \
    "pool: app}]}\n"                                                                               \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: ['unix:/run/app.sock']}\n"

/* admin: the value of the key. Returns the config, or NULL with what is wrong in `error`. */
static struct conf *parse(const char *admin, char *error, size_t size)
{
    char text[1024];
    struct conf *conf = NULL;
    const struct conf_findings findings = {.odd = keep};
    int n = snprintf(text, sizeof(text), BASE "admin: %s\n", admin);
    warned[0] = '\0';
    error[0] = '\0';
    conf_try("c.yaml", text, (size_t)n, &findings, &conf, error, size);
    return conf;
}

Test(check_admin, addresses)
{
    static const struct {
        const char *admin;
        const char *addresses[3]; /* as conf_value_address() reads them */
        bool warns;
    } rows[] = {
        {"{address: 9464}", {"[::1]:9464", "127.0.0.1:9464"}, false},
        {"{address: ':9464'}", {"[::1]:9464", "127.0.0.1:9464"}, false},
        {"{address: '127.0.0.1:9464'}", {"127.0.0.1:9464"}, false},
        {"{address: '127.8.0.1:9464'}", {"127.8.0.1:9464"}, false},
        {"{address: '[::1]:9464'}", {"[::1]:9464"}, false},
        {"{address: 'localhost:9464'}", {"[::1]:9464", "127.0.0.1:9464"}, false},
        {"{address: 'unix:/run/admin.sock'}", {"unix:/run/admin.sock"}, false},
        {"{address: '10.0.0.1:9464'}", {"10.0.0.1:9464"}, true},
        {"{address: '*:9464'}", {"0.0.0.0:9464", "[::]:9464"}, true},
        {"{address: '*:9464', token_file: /t}", {"0.0.0.0:9464", "[::]:9464"}, false},
        {"{address: '127.0.0.1:8081', token_file: /t}", {"127.0.0.1:8081"}, false},
    };
    size_t before = mem_in_use();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[256];
        struct conf *conf = parse(rows[i].admin, error, sizeof(error));
        cr_assert_not_null(conf, "%s: %s", rows[i].admin, error);
        uint32_t n = 0;
        for (; rows[i].addresses[n] != NULL; n++) {
            struct conf_address wanted;
            cr_assert_null(conf_value_address(rows[i].addresses[n], &wanted));
            cr_expect(conf_value_same(&wanted, &conf->admin.addresses[n]), "%s: %s", rows[i].admin,
                rows[i].addresses[n]);
        }
        cr_expect_eq(conf->admin.naddresses, n, "%s", rows[i].admin);
        cr_expect_eq(warned[0] != '\0', rows[i].warns, "%s: %s", rows[i].admin, warned);
        if (rows[i].warns)
            cr_expect(strncmp(warned, "c.yaml:5: admin.address: ", 25) == 0, "%s", warned);
        conf_free(conf);
    }
    cr_expect_eq(mem_in_use(), before);
}

Test(check_admin, what_is_wrong)
{
    static const struct {
        const char *admin;
        const char *error;
    } rows[] = {
        {"{address: ''}", "admin.address: must not be empty"},
        {"{address: 0}", "admin.address: '0': "},
        {"{address: 65536}", "admin.address: '65536': "},
        {"{address: 1234567890123456}", "admin.address: '1234567890123456': "},
        {"{address: x}", "admin.address: 'x': "},
        {"{address: 'unix:admin.sock'}", "admin.address: 'unix:admin.sock': "},
        {"{token_file: /t}", "admin.address: this key is needed here"},
        {"{address: 1, token_file: t}", "admin.token_file: 't': an absolute path"},
        {"{address: 1, token: t}", "admin.token: unknown key: those here are address, token_file"},
        {"{address: '127.0.0.1:8080'}",
            "admin.address: '127.0.0.1:8080' and '127.0.0.1:8080' of listener web have an address "
            "in common"},
        {"{address: 8080}",
            "admin.address: '8080' and '127.0.0.1:8080' of listener web have an address in common"},
        {"9464", "admin: keys with values are needed here"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[512];
        char wanted[512];
        snprintf(wanted, sizeof(wanted), "c.yaml:5: %s", rows[i].error);
        cr_expect_null(parse(rows[i].admin, error, sizeof(error)), "%s", rows[i].admin);
        cr_expect_eq(strncmp(error, wanted, strlen(wanted)), 0, "%s, not %s", error, wanted);
    }
}

Test(check_admin, is_not_there_by_default)
{
    char error[256];
    struct conf *conf = parse("{address: 1}\n# ", error, sizeof(error));
    cr_assert_not_null(conf);
    cr_expect_str_eq(conf->admin.text, "1");
    cr_expect_null(conf->admin.token_file.path);
    conf_free(conf);
    static const char without[] = "listeners:\n  - {name: w, address: '127.0.0.1:1', protocol: "
                                  "http, routes: [{path: /, kind: http, pool: a}]}\npools:\n  - "
                                  "{name: a, workers: ['unix:/a']}\n";
    cr_assert_eq(
        conf_try("c.yaml", without, strlen(without), NULL, &conf, error, sizeof(error)), 0);
    cr_expect_null(conf->admin.text);
    cr_expect_eq(conf->admin.naddresses, 0);
    conf_free(conf);
}

/* metrics: the value of the key. Returns the config, or NULL with what is wrong in `error`. */
static struct conf *parse_metrics(const char *metrics, char *error, size_t size)
{
    char text[8192], admin[8192];
    snprintf(admin, sizeof(admin), "{address: 9464}\nmetrics: %s", metrics);
    struct conf *conf = NULL;
    const struct conf_findings findings = {.odd = keep};
    int n = snprintf(text, sizeof(text), BASE "admin: %s\n", admin);
    cr_assert((size_t)n < sizeof(text));
    error[0] = '\0';
    conf_try("c.yaml", text, (size_t)n, &findings, &conf, error, size);
    return conf;
}

Test(check_admin, methods)
{
    static const struct {
        const char *metrics, *error;
    } rows[] = {
        {"{methods: [a, 'b.c']}", NULL},
        {"{methods: []}", NULL},
        {"{}", NULL},
        {"{methods: [a, b, a]}", "c.yaml:6: metrics.methods[2]: 'a' is there twice"},
        {"{methods: ['']}", "c.yaml:6: metrics.methods[0]: '': 1 to 55 bytes"},
        {"{method: [a]}", "c.yaml:6: metrics.method: unknown key: those here are methods"},
    };
    size_t before = mem_in_use();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char error[512];
        struct conf *conf = parse_metrics(rows[i].metrics, error, sizeof(error));
        if (rows[i].error == NULL)
            cr_expect(conf != NULL, "%s: %s", rows[i].metrics, error);
        else
            cr_expect(conf == NULL && strncmp(error, rows[i].error, strlen(rows[i].error)) == 0,
                "%s: %s", rows[i].metrics, error);
        if (i == 0)
            cr_expect(conf->nmetric_methods == 2 && strcmp(conf->metric_methods[1], "b.c") == 0);
        conf_free(conf);
    }
    cr_expect_eq(mem_in_use(), before);
}

/* At each limit, and one past it. */
Test(check_admin, many_and_long_methods)
{
    for (unsigned past = 0; past < 2; past++) {
        char text[4096] = "{methods: [", error[512];
        size_t n = strlen(text);
        for (unsigned i = 0; i < CONF_METRIC_METHODS_MAX + past; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "m%u, ", i);
        snprintf(text + n, sizeof(text) - n, "]}");
        struct conf *conf = parse_metrics(text, error, sizeof(error));
        cr_expect_eq(conf == NULL, past == 1, "%s", error);
        cr_expect(past == 0 || strstr(error, "at most 100 methods") != NULL, "%s", error);
        conf_free(conf);
        snprintf(text, sizeof(text), "{methods: [%.*s]}", (int)(CONF_METRIC_METHOD_SIZE + past),
            "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm");
        conf = parse_metrics(text, error, sizeof(error));
        cr_expect_eq(conf == NULL, past == 1, "%s", error);
        conf_free(conf);
    }
}
