#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/content_coding.h"
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

Test(conf_check_coding, compress)
{
    size_t before = mem_in_use();
    struct conf *conf = parse_good(HTTP);
    cr_expect_null(conf->listeners[0].routes[0].compress);
    conf_free(conf);

    conf = parse_good(RPC "compress: {}");
    const struct conf_compress *compress = conf->listeners[0].routes[0].compress;
    cr_assert_not_null(compress);
    cr_expect(compress->ncodings == 2 && compress->codings[0] == CODING_BR &&
              compress->codings[1] == CODING_GZIP && compress->gzip);
    cr_expect(compress->ntypes == 7 && strcmp(compress->types[0], "text/*") == 0);
    cr_expect(compress->from == 1024 && compress->up_to == 256 << 10);
    cr_expect(compress->gzip_level == 3 && compress->br_level == 2 && !compress->credentials);
    conf_free(conf);

    conf = parse_good(HTTP "compress: {encodings: [br], types: [Text/HTML], from: 1, up_to: 4MiB, "
                           "gzip_level: 9, br_level: 5, credentials: true}");
    compress = conf->listeners[0].routes[0].compress;
    cr_expect(compress->ncodings == 1 && compress->codings[0] == CODING_BR && !compress->gzip);
    cr_expect(compress->ntypes == 1 && strcmp(compress->types[0], "text/html") == 0);
    cr_expect(compress->from == 1 && compress->up_to == 4 << 20);
    cr_expect(compress->gzip_level == 9 && compress->br_level == 5 && compress->credentials);
    conf_free(conf);
    cr_expect_eq(mem_in_use(), before);
}

Test(conf_check_coding, compress_errors)
{
#define IN AT "compress."
    static const struct row rows[] = {
        {HTTP "compress: {br_level: 0, gzip_level: 1}", NULL},
        {HTTP "compress: {encodings: []}", IN "encodings: at least one of br and gzip"},
        {HTTP "compress: {encodings: [deflate]}",
            IN "encodings[0]: 'deflate' is not known here: it is br or gzip"},
        {HTTP "compress: {encodings: [br, br]}", IN "encodings[1]: 'br' is there twice"},
        {HTTP "compress: {types: []}", IN "types: 1 to 64 types"},
        {HTTP "compress: {types: [html]}",
            IN "types[0]: a media type such as text/html or text/*: 'html'"},
        {HTTP "compress: {types: [text/html, \"*/*\"]}",
            IN "types[1]: a media type such as text/html or text/*: '*/*'"},
        {HTTP "compress: {types: [\"text/html;x\"]}",
            IN "types[0]: a media type such as text/html or text/*: 'text/html;x'"},
        {HTTP "compress: {up_to: 4194305}", IN "up_to: from `from` to 4MiB"},
        {HTTP "compress: {from: 2KiB, up_to: 2047}", IN "up_to: from `from` to 4MiB"},
        {HTTP "compress: {from: 2KiB, up_to: 2KiB}", NULL},
        {HTTP "compress: {credentials: yes}",
            IN "credentials: 'yes' is not known here: it is false or true"},
        {HTTP "compress: true", AT "compress: keys with values are needed here"},
        {WS "compress: {}", AT "compress: only for kind: jsonrpc and http"},
    };
    check_rows(rows, ARRAY_LEN(rows));
    char said[512];
    static const char *const levels[] = {
        "gzip_level: 0", "gzip_level: 10", "br_level: 6", "br_level: -1", "from: 0"};
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        char text[256];
        snprintf(text, sizeof(text), HTTP "compress: {%s}", levels[i]);
        cr_expect_null(parse(text, said, sizeof(said)), "%s", levels[i]);
        cr_expect(strstr(said, "compress.") != NULL, "%s", said);
    }
}
