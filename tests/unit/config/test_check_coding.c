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

#define RPC  "        kind: jsonrpc\n        pool: app\n        " /* 7 */
#define WS   "        kind: websocket\n        pool: app\n        "
#define HTTP "        kind: http\n        pool: app\n        "
#define AT   "8: listeners[0].routes[0]."

Test(conf_check_coding, request_encodings)
{
    static const struct {
        const char *keys;
        bool gunzip;
    } cases[] = {
        {RPC, true},
        {RPC "request_encodings: [gzip]", true},
        {RPC "request_encodings: []", false},
        {HTTP, false},
        {HTTP "request_encodings: [gzip]", true},
        {HTTP "request_encodings: []", false},
        {WS, false},
    };
    size_t before = mem_in_use();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct conf *conf = parse_good(cases[i].keys);
        cr_expect_eq(conf->listeners[0].routes[0].gunzip, cases[i].gunzip, "row %zu", i);
        conf_free(conf);
    }
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_coding, request_encodings_errors)
{
    static const struct row rows[] = {
        {RPC "request_encodings: [br]",
            AT "request_encodings[0]: 'br' is not known here: it is gzip"},
        {RPC "request_encodings: [gzip, gzip]", AT "request_encodings[1]: 'gzip' is there twice"},
        {RPC "request_encodings: gzip", AT "request_encodings: a list is needed here"},
        {WS "request_encodings: []", AT "request_encodings: only for kind: jsonrpc and http"},
    };
    check_rows(rows, ARRAY_LEN(rows));
}
