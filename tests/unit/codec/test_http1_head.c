#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/http1_head.h"

/*
 * A head is parsed here as a copy on the heap that ends where the input ends: ASan sees the rest.
 */

static const struct http1_limits roomy = {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX};

struct row {
    const char *input;
    size_t n;
    int result;
    const char *events; /* what render() makes of the head, when result is 0 */
};

#define IN(literal) literal, sizeof(literal) - 1

static bool inside(struct span span, const char *p, size_t n)
{
    return span.p >= p && span.p <= p + n && span.n <= (size_t)(p + n - span.p);
}

static void render(const struct http1_head *head, const char *p, size_t n, char *out, size_t size)
{
    static const char *const methods[] = {
        "other", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"};
    static const char *const forms[] = {"origin", "absolute", "authority", "asterisk"};
    const struct span spans[] = {head->http.method_text, head->target, head->http.path,
        head->http.query, head->http.authority};
    for (size_t i = 0; i < ARRAY_LEN(spans); i++)
        cr_assert(inside(spans[i], p, n));

    FILE *file = fmemopen(out, size, "w");
    cr_assert_not_null(file);
    fprintf(file, "%s %.*s %s %.*s path=%.*s query=%.*s authority=%.*s 1.%d",
        methods[head->http.method], (int)head->http.method_text.n, head->http.method_text.p,
        forms[head->http.form], (int)head->target.n, head->target.p, (int)head->http.path.n,
        head->http.path.p, (int)head->http.query.n, head->http.query.p, (int)head->http.authority.n,
        head->http.authority.p, head->minor);
    if (head->has_length)
        fprintf(file, " length=%llu", (unsigned long long)head->content_length);
    fprintf(file, "%s%s%s%s\n", head->chunked ? " chunked" : "",
        head->keep_alive ? " keep-alive" : "", head->http.expect_continue ? " expect" : "",
        head->http.content_coded ? " coded" : "");
    for (size_t i = 0; i < head->http.nfields; i++) {
        const struct http_field *field = &head->http.fields[i];
        cr_assert(inside(field->name, p, n) && inside(field->value, p, n));
        fprintf(file, "%s%.*s=%.*s\n", field->hop_by_hop ? "~" : "", (int)field->name.n,
            field->name.p, (int)field->value.n, field->value.p);
    }
    fclose(file);
}

static int parse_copy(const char *p, size_t n, const struct http1_limits *limits,
    struct http1_head *head, size_t *used, char *text, size_t size)
{
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, p, n);
    memset(head, 0xa5, sizeof(*head)); /* nothing may be left as it was found */
    const int r = http1_head_parse(copy, n, limits, head, used);
    if (r == 0)
        render(head, copy, n, text, size);
    free(copy);
    return r;
}

/*
 * The whole input gives the result; from some byte on, so does every prefix, and every shorter one
 * HTTP1_E_MORE. A complete head is the same with other bytes behind it.
 */
static void check(const struct row *row, const struct http1_limits *limits)
{
    static struct http1_head head;
    char text[4096] = "", longer[65536 + 16];
    size_t used = 0;
    int r = parse_copy(row->input, row->n, limits, &head, &used, text, sizeof(text));
    cr_assert_eq(r, row->result, "\"%s\": %d instead of %d", row->input, r, row->result);
    if (r == 0) {
        cr_assert_eq(used, row->n, "\"%s\": %zu bytes used", row->input, used);
        cr_assert_eq(head.text.n, used);
        if (row->events != NULL)
            cr_assert_str_eq(text, row->events, "\"%s\":\n%s", row->input, text);
        memcpy(longer, row->input, row->n);
        memcpy(longer + row->n, "\r\nGET /\1", 8);
        r = parse_copy(longer, row->n + 8, limits, &head, &used, text, sizeof(text));
        cr_assert(r == 0 && used == row->n, "\"%s\" and more: %d", row->input, r);
    }
    bool decided = false;
    for (size_t n = 0; n < row->n; n++) {
        r = parse_copy(row->input, n, limits, &head, &used, text, sizeof(text));
        if (r == HTTP1_E_MORE && !decided)
            continue;
        decided = true;
        cr_assert(r == row->result && r != 0, "\"%.*s\": %d", (int)n, row->input, r);
    }
}

static void check_all(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(&rows[i], &roomy);
}

static void check_bad(const struct span *inputs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(&(struct row){inputs[i].p, inputs[i].n, 400, NULL}, &roomy);
}

#define HOST "Host: h\r\n"
#define POST "POST / HTTP/1.1\r\nHost: h\r\n"
#define OLD  "POST / HTTP/1.0\r\n"
#define END  "\r\n"

#define ROOT     " origin / path=/ query= authority="
#define POSTED   "POST POST" ROOT "h 1.1"
#define OLD_POST "POST POST" ROOT " 1.0"

Test(http1_head, request_line)
{
    static const struct row rows[] = {
        {IN("GET / HTTP/1.1\r\n" HOST END), 0, "GET GET" ROOT "h 1.1 keep-alive\nHost=h\n"},
        {IN("\r\n\r\nHEAD / HTTP/1.1\r\n" HOST END), 0,
            "HEAD HEAD" ROOT "h 1.1 keep-alive\nHost=h\n"},
        {IN("PUT / HTTP/1.9\r\n" HOST END), 0, "PUT PUT" ROOT "h 1.1 keep-alive\nHost=h\n"},
        {IN("DELETE / HTTP/1.0\r\n" END), 0, "DELETE DELETE" ROOT " 1.0\n"},
        {IN("PATCH / HTTP/1.0\r\n" END), 0, "PATCH PATCH" ROOT " 1.0\n"},
        {IN("TRACE / HTTP/1.0\r\n" END), 0, "TRACE TRACE" ROOT " 1.0\n"},
        {IN("OPTIONS / HTTP/1.0\r\n" END), 0, "OPTIONS OPTIONS" ROOT " 1.0\n"},
        {IN("get / HTTP/1.0\r\n" END), 0, "other get" ROOT " 1.0\n"},
        {IN("A!#$%&'*+-.^_`|~09 / HTTP/1.0\r\n" END), 0, "other A!#$%&'*+-.^_`|~09" ROOT " 1.0\n"},
        {IN("GET /a/b%20c?x=1?y&\"{|}\\^ HTTP/1.0\r\n" END), 0,
            "GET GET origin /a/b%20c?x=1?y&\"{|}\\^ path=/a/b%20c query=x=1?y&\"{|}\\^ authority= "
            "1.0\n"},
        {IN("GET //h/a? HTTP/1.0\r\n" END), 0,
            "GET GET origin //h/a? path=//h/a query= authority= 1.0\n"},
        {IN("GET / HTTP/2.0\r\n"), 505, NULL},
        {IN("GET / HTTP/0.9\r\n"), 505, NULL},
        {IN("GET / HTTP/9.1\r\n" HOST END), 505, NULL},
    };
    static const struct span bad[] = {{IN("\n")}, {IN("\r\r")}, {IN("\r\n\n")},
        {IN(" GET / HTTP/1.1\r\n")}, {IN("GE\tT / HTTP/1.1\r\n")}, {IN("G(T / HTTP/1.1\r\n")},
        {IN("GET\0 / HTTP/1.1\r\n")}, {IN("GET\r\n")}, {IN("GET /\r\n")}, {IN("GET / \r\n")},
        {IN("GET  / HTTP/1.1\r\n")}, {IN("GET /  HTTP/1.1\r\n")}, {IN("GET / HTTP/1.1 \r\n")},
        {IN("GET\t/ HTTP/1.1\r\n")}, {IN("GET /a b HTTP/1.1\r\n")}, {IN("GET /a#b HTTP/1.1\r\n")},
        {IN("GET /a-long-enough-target-for-sixteen#b HTTP/1.1\r\n")},
        {IN("GET /a-long-enough-target-for-sixteen\x7f HTTP/1.1\r\n")},
        {IN("GET /a-long-enough-target-for-sixteen\xc3\xa4 HTTP/1.1\r\n")},
        {IN("GET /\x80 HTTP/1.1\r\n")}, {IN("GET /\x1f HTTP/1.1\r\n")},
        {IN("GET /\0 HTTP/1.1\r\n")}, {IN("GET a HTTP/1.1\r\n")}, {IN("GET / HTTP/1.1\n" HOST END)},
        {IN("GET / HTTP/1.1\rX")}, {IN("GET / http/1.1\r\n")}, {IN("GET / HTTP/1\r\n")},
        {IN("GET / HTTP/11\r\n")}, {IN("GET / HTTP/1.10\r\n")}, {IN("GET / HTTP/2.0x")}};
    check_all(rows, ARRAY_LEN(rows));
    check_bad(bad, ARRAY_LEN(bad));
}

Test(http1_head, target_forms)
{
    static const struct row rows[] = {
        {IN("GET http://a.b:80/c?d HTTP/1.1\r\n" HOST END), 0,
            "GET GET absolute http://a.b:80/c?d path=/c query=d authority=a.b:80 1.1 keep-alive\n"
            "Host=a.b:80\n"},
        /* what Host says then is not shown to anybody, wherever it stands and whatever it is */
        {IN("GET http://a/ HTTP/1.1\r\nX: 1\r\nhOST:\r\nX-Host: h\r\n" END), 0,
            "GET GET absolute http://a/ path=/ query= authority=a 1.1 keep-alive\n"
            "X=1\nhOST=a\nX-Host=h\n"},
        {IN("GET http://a/ HTTP/1.0\r\nHost: b:1\r\n" END), 0,
            "GET GET absolute http://a/ path=/ query= authority=a 1.0\nHost=a\n"},
        {IN("GET HTTPS://a HTTP/1.0\r\n" END), 0,
            "GET GET absolute HTTPS://a path=/ query= authority=a 1.0\n"},
        {IN("GET http://a?b/c HTTP/1.0\r\n" END), 0,
            "GET GET absolute http://a?b/c path=/ query=b/c authority=a 1.0\n"},
        {IN("OPTIONS http://[::1]:/ HTTP/1.0\r\n" END), 0,
            "OPTIONS OPTIONS absolute http://[::1]:/ path=/ query= authority=[::1]: 1.0\n"},

        {IN("CONNECT a.b:443 HTTP/1.1\r\n" HOST END), 0,
            "CONNECT CONNECT authority a.b:443 path= query= authority=a.b:443 1.1 keep-alive\n"
            "Host=a.b:443\n"},
        {IN("CONNECT [::1]:1 HTTP/1.0\r\n" END), 0,
            "CONNECT CONNECT authority [::1]:1 path= query= authority=[::1]:1 1.0\n"},

        {IN("OPTIONS * HTTP/1.1\r\n" HOST END), 0,
            "OPTIONS OPTIONS asterisk * path= query= authority=h 1.1 keep-alive\nHost=h\n"},
    };
    static const struct span bad[] = {{IN("GET http://a/ HTTP/1.1\r\n" END)},
        {IN("GET http://a/ HTTP/1.1\r\n" HOST HOST END)}, {IN("GET http:///a HTTP/1.0\r\n")},
        {IN("GET http:// HTTP/1.0\r\n")}, {IN("GET http://?a HTTP/1.0\r\n")},
        {IN("GET http://:80/ HTTP/1.0\r\n")}, {IN("GET http://u@a/ HTTP/1.0\r\n")},
        {IN("GET http://u:p@a/ HTTP/1.0\r\n")}, {IN("GET http://a:b/ HTTP/1.0\r\n")},
        {IN("GET http://a\\b/ HTTP/1.0\r\n")}, {IN("GET http:/a HTTP/1.0\r\n")},
        {IN("GET http HTTP/1.0\r\n")}, {IN("GET ftp://a/ HTTP/1.0\r\n")},
        {IN("GET httpss://a/ HTTP/1.0\r\n")}, {IN("CONNECT a HTTP/1.0\r\n")},
        {IN("CONNECT a: HTTP/1.0\r\n")}, {IN("CONNECT a:0 HTTP/1.0\r\n")},
        {IN("CONNECT a:65536 HTTP/1.0\r\n")}, {IN("CONNECT :1 HTTP/1.0\r\n")},
        {IN("CONNECT u@a:1 HTTP/1.0\r\n")}, {IN("CONNECT / HTTP/1.0\r\n")},
        {IN("CONNECT a:1/ HTTP/1.0\r\n")}, {IN("CONNECT http://a:1/ HTTP/1.0\r\n")},
        {IN("GET a:1 HTTP/1.0\r\n")}, {IN("OPTIONS ** HTTP/1.0\r\n")},
        {IN("OPTIONS */ HTTP/1.0\r\n")}, {IN("GET * HTTP/1.0\r\n")}};
    check_all(rows, ARRAY_LEN(rows));
    check_bad(bad, ARRAY_LEN(bad));
}

Test(http1_head, fields)
{
    static const struct row rows[] = {
        {IN(OLD "a:\r\nB: \t \r\nx_1.~: \tb \"\xc3\xa4\"\t c \t\r\n" END), 0,
            OLD_POST "\na=\nB=\nx_1.~=b \"\xc3\xa4\"\t c\n"},
        {IN(OLD "a: a value that is a good deal longer than sixteen,\tthat is.\r\n" END), 0,
            OLD_POST "\na=a value that is a good deal longer than sixteen,\tthat is.\n"},
        {IN(OLD "an-Extraordinarily-long-0_name-of-a-field:v\r\n" END), 0,
            OLD_POST "\nan-Extraordinarily-long-0_name-of-a-field=v\n"},
    };
    static const struct span bad[] = {{IN(OLD " a: b\r\n")}, {IN(OLD "a: b\r\n c\r\n")},
        {IN(OLD "a: b\r\n\tc\r\n")}, {IN(OLD "a : b\r\n")}, {IN(OLD "a\t: b\r\n")},
        {IN(OLD ": b\r\n")}, {IN(OLD "a\r\n")}, {IN(OLD "a b: c\r\n")}, {IN(OLD "a\x80: c\r\n")},
        {IN(OLD "quite-a-long-name-(of-a-field): c\r\n")},
        {IN(OLD "quite-a-long-name-[of-a-field]: c\r\n")},
        {IN(OLD "quite-a-long-name-{of-a-field}: c\r\n")}, {IN(OLD "quite-a-long-name-@: c\r\n")},
        {IN(OLD "a: b\n\r\n")}, {IN(OLD "a: b\rc\r\n")}, {IN(OLD "a: b\r\r\n")},
        {IN(OLD "a: b\r\n\rc")}, {IN(OLD "a: b\r\n\n")}, {IN(OLD "a: \0\r\n")},
        {IN(OLD "a: a value that is a good deal longer than sixteen\0\r\n")},
        {IN(OLD "a: a value that is a good deal longer than sixteen\x1f\r\n")},
        {IN(OLD "a: a value that is a good deal longer than sixteen\x7f\r\n")},
        {IN(OLD "a: \x01\r\n")}, {IN(OLD "a: \x0b\r\n")}, {IN(OLD "a: \x7f\r\n")}};
    check_all(rows, ARRAY_LEN(rows));
    check_bad(bad, ARRAY_LEN(bad));
}

Test(http1_head, every_byte_in_name_value_and_target)
{
    for (int c = 0; c < 256; c++) {
        char text[256];
        const bool alnum = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
        const bool token = c != 0 && (alnum || strchr("!#$%&'*+-.^_`|~", c) != NULL);
        const bool value = c == '\t' || (c >= ' ' && c != 0x7f);
        const bool target = c > ' ' && c < 0x7f && c != '#';
        /* near the end, where bytes are looked at one by one, and far from it */
        for (int pad = 0; pad <= 32; pad += 32) {
            const struct {
                const char *before, *after;
                bool ok;
            } places[] = {
                {"GET / HTTP/1.0\r\n", ": a\r\n\r\n", token || c == ':'},
                {"GET / HTTP/1.0\r\na: ", "\r\n\r\n", value},
                {"GET /", " HTTP/1.0\r\n\r\n", target},
                {"", " / HTTP/1.0\r\n\r\n", token},
            };
            for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                static const char fill[] = "abcdefghijklmnopqrstuvwxyzABCDEFGH";
                const int n = snprintf(text, sizeof(text), "%s%.*sx%cx%s", places[i].before, pad,
                    fill, c, places[i].after);
                const struct row row = {text, (size_t)n, places[i].ok ? 0 : 400, NULL};
                check(&row, &roomy);
            }
        }
    }
}

/* In Host and as the authority of a target. */
static void check_host(const char *host, int result)
{
    char text[256], events[256];
    int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nhost: %s\r\n\r\n", host);
    snprintf(events, sizeof(events), "GET GET" ROOT "%s 1.1 keep-alive\nhost=%s\n", host, host);
    check(&(struct row){text, (size_t)n, result, events}, &roomy);

    if (strpbrk(host, "/?") != NULL)
        return;
    n = snprintf(text, sizeof(text), "GET http://%s HTTP/1.0\r\n\r\n", host);
    const bool ok = result == 0 && host[0] != '\0';
    check(&(struct row){text, (size_t)n, ok ? 0 : 400, NULL}, &roomy);
}

Test(http1_head, host)
{
    static const char *const good[] = {"", "h", "example.com:8080",
        "EXAMPLE.com:", "127.0.0.1:65535", "a_b-c~!$&'()*+;=", "%41%fF", "[::]",
        "[2001:db8::7]:443", "[::ffff:192.0.2.1]",
        "[1111:2222:3333:4444:5555:6666:255.255.255.255]"};
    static const char *const bad[] = {"h:65536", "h:99999999999999999999", "h:8a", "h:-1", "h:1:2",
        ":80", "h h", "h/", "h?", "u@h", "h\"", "h\\", "\xc3\xa4", "%4", "%4g", "[]", "[::1",
        "[::1]x", "a,b", "[::1]:x", "[fe80::1%25eth0]", "[v1.a]", "[12345::]",
        "[1:2:3:4:5:6:7:8:9]", "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]", "::1", "a]"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        check_host(good[i], 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        check_host(bad[i], 400);

    static const struct row more[] = {
        {IN("GET / HTTP/1.1\r\n" END), 400, NULL},
        {IN("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n"), 400, NULL},
        {IN("GET / HTTP/1.1\r\nHost:\r\nHOST:\r\n"), 400, NULL},
        {IN("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n"), 400, NULL},
        {IN("GET / HTTP/1.0\r\nHost: a\r\n" END), 0, "GET GET" ROOT "a 1.0\nHost=a\n"},
    };
    check_all(more, ARRAY_LEN(more));
}

Test(http1_head, content_length)
{
    static const struct row rows[] = {
        {IN(OLD "Content-Length: 0\r\n" END), 0, OLD_POST " length=0\nContent-Length=0\n"},
        {IN(OLD "CONTENT-length:007\r\n" END), 0, OLD_POST " length=7\nCONTENT-length=007\n"},
        {IN(OLD "Content-Length: 18446744073709551615\r\n" END), 0,
            OLD_POST " length=18446744073709551615\nContent-Length=18446744073709551615\n"},
    };
    static const struct span bad[] = {{IN(OLD "Content-Length: 18446744073709551616\r\n")},
        {IN(OLD "Content-Length: 18446744073709551620\r\n")},
        {IN(OLD "Content-Length: 99999999999999999999999999999999999999999\r\n")},
        {IN(OLD "Content-Length:\r\n")}, {IN(OLD "Content-Length: +1\r\n")},
        {IN(OLD "Content-Length: -1\r\n")}, {IN(OLD "Content-Length: 0x1\r\n")},
        {IN(OLD "Content-Length: 1 1\r\n")}, {IN(OLD "Content-Length: 1,1\r\n")},
        {IN(OLD "Content-Length: 1.0\r\n")}, {IN(OLD "Content-Length: 1\r\nContent-Length: 1\r\n")},
        {IN(OLD "Content-Length: 0\r\nContent-Length: 0\r\n")},
        {IN(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")},
        {IN(POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n")},
        {IN(POST "Transfer-Encoding: chunked\r\nContent-Length: x\r\n")}};
    check_all(rows, ARRAY_LEN(rows));
    check_bad(bad, ARRAY_LEN(bad));
}

Test(http1_head, transfer_encoding)
{
    static const struct {
        const char *fields;
        int result;
    } rows[] = {
        {"Transfer-Encoding: chunked\r\n", 0},
        {"transfer-ENCODING:\tCHUNKED \r\n", 0},
        {"Transfer-Encoding: gzip, chunked\r\n", 501},
        {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501},
        {"Transfer-Encoding: gzip;q=1 ; a=\"x,\\\"chunked\" ,\tchunked\r\n", 501},
        {"Transfer-Encoding: identity, chunked\r\n", 501},
        {"Transfer-Encoding: gzip\r\n", 400},
        {"Transfer-Encoding: identity\r\n", 400},
        {"Transfer-Encoding: gzip; a=\"x, chunked\"\r\n", 400},
        {"Transfer-Encoding: chunked, gzip\r\n", 400},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", 400},
        {"Transfer-Encoding: chunked, chunked\r\n", 400},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding: gzip, chunked, chunked\r\n", 400},
        {"Transfer-Encoding: gzip, chunked\r\nTransfer-Encoding: chunked\r\n", 400},
        {"Transfer-Encoding: xchunked\r\n", 400},
        {"Transfer-Encoding: chunked1\r\n", 400},
        {"Transfer-Encoding: chun\r\n", 400},
        {"Transfer-Encoding:\r\n", 400},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", 400},
        {"Transfer-Encoding: ,chunked\r\n", 400},
        {"Transfer-Encoding: chunked,\r\n", 400},
        {"Transfer-Encoding: chunked;a=b\r\n", 400},
        {"Transfer-Encoding: chunked ;\r\n", 400},
        {"Transfer-Encoding: \"chunked\"\r\n", 400},
        {"Transfer-Encoding: gzip chunked\r\n", 400},
        {"Transfer-Encoding: gzip;, chunked\r\n", 400},
        {"Transfer-Encoding: gzip;a, chunked\r\n", 400},
        {"Transfer-Encoding: gzip;a=, chunked\r\n", 400},
        {"Transfer-Encoding: gzip;a=\"b, chunked\r\n", 400},
        {"Transfer-Encoding: gzip;a=\"b\\\r\n", 400},
        {"Transfer-Encoding : chunked\r\n", 400},
        {"Transfer-Encoding: ch\tunked\r\n", 400},
    };
    static struct http1_head head;
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int n = snprintf(text, sizeof(text), POST "%s\r\n", rows[i].fields);
        const struct row row = {text, (size_t)n, rows[i].result, NULL};
        check(&row, &roomy);

        size_t used;
        if (rows[i].result == 0) {
            cr_assert_eq(http1_head_parse(text, (size_t)n, &roomy, &head, &used), 0);
            cr_assert(head.chunked && !head.has_length);
        }
        n = snprintf(text, sizeof(text), OLD "%s", rows[i].fields);
        const struct row old = {text, (size_t)n, 400, NULL};
        check(&old, &roomy);
    }
}

Test(http1_head, keep_alive)
{
    static const struct {
        const char *fields;
        bool keep, keep_old; /* HTTP/1.1, HTTP/1.0 */
    } rows[] = {
        {"", true, false},
        {"Connection: keep-alive\r\n", true, true},
        {"CONNECTION: Keep-Alive\r\n", true, true},
        {"Connection: close\r\n", false, false},
        {"Connection: CLOSE\r\n", false, false},
        {"Connection: keep-alive, close\r\n", false, false},
        {"Connection: close, keep-alive\r\n", false, false},
        {"Connection: close\r\nConnection: keep-alive\r\n", false, false},
        {"Connection: keep-alive\r\nConnection: close\r\n", false, false},
        {"Connection: Upgrade ,\t keep-alive ,, te,\r\n", true, true},
        {"Connection: ,,\r\n", true, false},
        {"Connection:\r\n", true, false},
        {"Connection: closed, keep-alives\r\n", true, false},
        {"Proxy-Connection: close\r\n", true, false},
        {"Proxy-Connection: keep-alive\r\n", true, false},
        {"Keep-Alive: timeout=5\r\n", true, false},
    };
    static struct http1_head head;
    char text[256];
    size_t used;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (int minor = 0; minor < 2; minor++) {
            const int n = snprintf(
                text, sizeof(text), "GET / HTTP/1.%d\r\n" HOST "%s\r\n", minor, rows[i].fields);
            const struct row row = {text, (size_t)n, 0, NULL};
            check(&row, &roomy);
            cr_assert_eq(http1_head_parse(text, (size_t)n, &roomy, &head, &used), 0);
            cr_assert_eq(head.keep_alive, minor ? rows[i].keep : rows[i].keep_old, "%s", text);
        }

    static const struct row bad[] = {
        {IN(POST "Connection: a b\r\n"), 400, NULL},
        {IN(POST "Connection: close;\r\n"), 400, NULL},
        {IN(POST "Connection: \"close\"\r\n"), 400, NULL},
    };
    check_all(bad, ARRAY_LEN(bad));
}

Test(http1_head, hop_by_hop)
{
    static const struct row rows[] = {
        {IN(POST "Keep-Alive: 1\r\nPROXY-connection: 2\r\nTE: 3\r\nTrailer: 4\r\nUpgrade: 5\r\n"
                 "Proxy-Authenticate: 6\r\nProxy-Authorization: 7\r\nConnection: te\r\n"
                 "Transfer-Encoding: chunked\r\nx-te: 8\r\nXE: 9\r\n" END),
            0,
            POSTED " chunked keep-alive\nHost=h\n~Keep-Alive=1\n~PROXY-connection=2\n~TE=3\n"
                   "~Trailer=4\n~Upgrade=5\n~Proxy-Authenticate=6\n~Proxy-Authorization=7\n"
                   "~Connection=te\n~Transfer-Encoding=chunked\nx-te=8\nXE=9\n"},
        {IN(OLD "X-A: 1\r\nConnection: x-a ,X-B\r\nx-b: 2\r\nX-C: 3\r\nX-a: 4\r\nX-a^: 5\r\n"
                "connection: X-D, x-A~\r\nX-D: 6\r\n" END),
            0,
            OLD_POST "\n~X-A=1\n~Connection=x-a ,X-B\n~x-b=2\nX-C=3\n~X-a=4\nX-a^=5\n"
                     "~connection=X-D, x-A~\n~X-D=6\n"},
        /* what the codec reads itself stays, whatever Connection says */
        {IN(POST "Connection: host, content-length, expect\r\nContent-Length: 2\r\n"
                 "Expect: 100-continue\r\n" END),
            0,
            POSTED " length=2 keep-alive expect\nHost=h\n"
                   "~Connection=host, content-length, expect\nContent-Length=2\n"
                   "Expect=100-continue\n"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(http1_head, expect)
{
    static const struct row rows[] = {
        {IN(POST "Expect: 100-Continue\r\n" END), 0,
            POSTED " keep-alive expect\nHost=h\nExpect=100-Continue\n"},
        {IN(POST "Expect: 100-continue, 100-continue\r\nExpect:\r\n" END), 0,
            POSTED " keep-alive expect\nHost=h\nExpect=100-continue, 100-continue\nExpect=\n"},
        {IN(POST "Expect:\r\n" END), 0, POSTED " keep-alive\nHost=h\nExpect=\n"},
        {IN(OLD "Expect: 100-continue\r\n" END), 0, OLD_POST "\nExpect=100-continue\n"},
        {IN(POST "Expect: 100-continued\r\n"), 417, NULL},
        {IN(POST "Expect: 100-continue, x\r\n"), 417, NULL},
        {IN(POST "Expect: 100-continue;a=b\r\n"), 417, NULL},
        {IN(POST "Expect: x=\"y\"\r\n" END), 417, NULL},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(http1_head, content_encoding)
{
    static const struct row rows[] = {
        {IN(POST "Content-Encoding: gzip\r\n" END), 0,
            POSTED " keep-alive coded\nHost=h\nContent-Encoding=gzip\n"},
        {IN(POST "content-ENCODING: identity, GZIP\r\n" END), 0,
            POSTED " keep-alive coded\nHost=h\ncontent-ENCODING=identity, GZIP\n"},
        {IN(OLD "Content-Encoding: identity\r\nContent-Encoding: br\r\n" END), 0,
            OLD_POST " coded\nContent-Encoding=identity\nContent-Encoding=br\n"},
        {IN(OLD "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n" END), 0,
            OLD_POST " coded\nContent-Encoding=gzip\nContent-Encoding=identity\n"},
        {IN(OLD "Content-Encoding: identity;q=1\r\n" END), 0,
            OLD_POST " coded\nContent-Encoding=identity;q=1\n"},
        {IN(OLD "Content-Encoding: Identity ,, identity\r\nContent-Encoding:\r\n" END), 0,
            OLD_POST "\nContent-Encoding=Identity ,, identity\nContent-Encoding=\n"},
        {IN(OLD "Content-Encodings: gzip\r\nXontent-Encoding: gzip\r\n" END), 0,
            OLD_POST "\nContent-Encodings=gzip\nXontent-Encoding=gzip\n"},
        /* a worker that is sent the body is told how it is coded, whatever Connection says */
        {IN(OLD "Content-Encoding: gzip\r\nConnection: content-encoding\r\n" END), 0,
            OLD_POST " coded\nContent-Encoding=gzip\n~Connection=content-encoding\n"},
    };
    check_all(rows, ARRAY_LEN(rows));
}

/* The last byte of each is the one at which there can be no good end any more. */
Test(http1_head, refused_at_once)
{
    static const struct row rows[] = {
        {IN("\n"), 400, NULL},
        {IN("{"), 400, NULL},
        {IN("\x16"), 400, NULL},
        {IN("GET  "), 400, NULL},
        {IN("GET /\n"), 400, NULL},
        {IN("GET *"), 400, NULL},
        {IN("GET hx"), 400, NULL},
        {IN("GET https:/x"), 400, NULL},
        {IN("OPTIONS *x"), 400, NULL},
        {IN("GET / h"), 400, NULL},
        {IN("GET / HTTP/x"), 400, NULL},
        {IN("GET / HTTP/1.1\n"), 400, NULL},
        {IN("GET / HTTP/3.0\r\n"), 505, NULL},
        {IN(POST " "), 400, NULL},
        {IN(POST "a "), 400, NULL},
        {IN(POST "a: b\n"), 400, NULL},
        {IN(POST "a: \x01"), 400, NULL},
        {IN(POST "a: b\r\r"), 400, NULL},
        {IN(POST HOST), 400, NULL},
        {IN(POST "Transfer-Encoding: chunked, x\r\n"), 400, NULL},
    };
    static struct http1_head head;
    char text[4096];
    size_t used;
    check_all(rows, ARRAY_LEN(rows));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_assert_eq(HTTP1_E_MORE,
            parse_copy(rows[i].input, rows[i].n - 1, &roomy, &head, &used, text, sizeof(text)),
            "%s", rows[i].input);
}

Test(http1_head, limit_of_bytes)
{
    static const char line[] = "\r\nGET /abc HTTP/1.1\r\n";
    static const char text[] = "\r\nGET /abc HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
    const size_t size = sizeof(text) - 1;
    for (uint32_t limit = 0; limit <= size + 1; limit++) {
        const int result = limit >= size ? 0 : limit >= sizeof(line) - 1 ? 431 : 414;
        const struct http1_limits limits = {.head_bytes = limit, .fields = 2};
        const struct row row = {text, size, result, NULL};
        check(&row, &limits);
        /* refused when the limit has been reached, not one byte later */
        if (result != 0 && limit > 0) {
            const struct row all = {text, limit, result, NULL};
            check(&all, &limits);
        }
    }
    /* what is wrong within the limit comes first */
    const struct http1_limits limits = {.head_bytes = 8, .fields = 2};
    static const struct row rows[] = {
        {IN("GET /ab\x01 HTTP/1.1"), 400, NULL},
        {IN("GET /abc\x01 HTTP/1.1"), 414, NULL},
        {IN("\r\n\r\n\r\n\r\n\r\n"), 414, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(&rows[i], &limits);
}

static size_t many_fields(char *text, size_t size, int fields)
{
    size_t n = (size_t)snprintf(text, size, "GET / HTTP/1.0\r\n");
    for (int i = 0; i < fields; i++)
        n += (size_t)snprintf(text + n, size - n, "x%d:\r\n", i);
    return n + (size_t)snprintf(text + n, size - n, "\r\n");
}

Test(http1_head, limit_of_fields)
{
    static const uint32_t counts[] = {0, 1, 7, HTTP_FIELDS_MAX};
    char text[4096];
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        const struct http1_limits limits = {.head_bytes = 65536, .fields = counts[i]};
        size_t n = many_fields(text, sizeof(text), (int)counts[i]);
        const struct row full = {text, n, 0, NULL};
        check(&full, &limits);
        n = many_fields(text, sizeof(text), (int)counts[i] + 1);
        const struct row over = {text, n, 431, NULL};
        check(&over, &limits);
    }
}

Test(http1_head, limit_of_connection_options)
{
    char text[4096];
    for (int extra = 0; extra < 2; extra++) {
        size_t n = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.0\r\n");
        for (int i = 0; i < 32; i += 2)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "Connection: a%d, b%d\r\n", i, i);
        n += (size_t)snprintf(
            text + n, sizeof(text) - n, "%s\r\n", extra ? "Connection: c\r\n" : "");
        const struct row row = {text, n, extra ? 431 : 0, NULL};
        check(&row, &roomy);
    }
}

Test(http1_head, method_is_known_after_the_request_line)
{
    static struct http1_head head;
    size_t used;
    head.http.method = HTTP_GET;
    cr_assert_eq(http1_head_parse(IN("HEAD / HTTP/1.1\r\n\x01"), &roomy, &head, &used), 400);
    cr_assert_eq(head.http.method, HTTP_HEAD);
    cr_assert_eq(http1_head_parse(IN("\x01"), &roomy, &head, &used), 400);
    cr_assert_eq(head.http.method, HTTP_OTHER);
}

Test(http1_head, find)
{
    static struct http1_head head;
    size_t used;
    cr_assert_eq(
        http1_head_parse(IN(OLD "X-Ab: 1\r\nx-aB: 2\r\nx-a^: 3\r\n" END), &roomy, &head, &used), 0);
    cr_assert_eq(http_head_find(&head.http, SPAN("x-ab")), &head.http.fields[0]);
    cr_assert_null(http_head_find(&head.http, SPAN("x-a~")));
    cr_assert_null(http_head_find(&head.http, SPAN("x-a")));
    cr_assert_null(http_head_find(&head.http, SPAN("")));
}
