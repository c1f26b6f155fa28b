#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/h2_head.h"

/* A list is written as "name=value" lines. */
static struct span list_of(const char *lines, char *out)
{
    size_t n = 0;
    while (*lines != '\0') {
        const char *end = strchr(lines, '\n');
        const char *mark = memchr(lines, '=', (size_t)(end - lines));
        uint32_t entry[2] = {(uint32_t)(mark - lines), (uint32_t)(end - mark - 1)};
        memcpy(out + n, entry, sizeof(entry));
        memcpy(out + n + 8, lines, entry[0]);
        memcpy(out + n + 8 + entry[0], mark + 1, entry[1]);
        n += 8 + entry[0] + entry[1];
        lines = end + 1;
    }
    return (struct span){out, n};
}

#define GET       ":method=GET\n:scheme=https\n:authority=h:8080\n:path=/p?q\n"
#define CONNECT   ":method=CONNECT\n:scheme=https\n:authority=h:8080\n:path=/p?q\n"
#define WEBSOCKET CONNECT ":protocol=websocket\n"
#define POST      ":method=POST\n:scheme=http\n:authority=h\n:path=/\n"

static const struct {
    const char *fields;
    int result; /* a fault, or a status */
} rows[] = {
    {GET, 0},
    {GET "x=y\n", 0},
    {GET "x=\n", 0},
    {GET "x= y\n", H2_FAULT_VALUE},
    {GET "x=y \n", H2_FAULT_VALUE},
    {GET "x=y\t\n", H2_FAULT_VALUE},
    {GET "x=a\rb\n", H2_FAULT_VALUE},
    {GET "x=a\x01"
         "b\n",
        H2_FAULT_VALUE},
    {GET "x=a\tb\n", 0},
    {GET "x=a\x7f"
         "b\n",
        H2_FAULT_VALUE},
    {GET "x=a\xe9"
         "b\n",
        0},
    {GET "X=y\n", H2_FAULT_NAME},
    {GET "xY=z\n", H2_FAULT_NAME},
    {GET "x\xe9=z\n", H2_FAULT_NAME},
    {GET "x y=z\n", H2_FAULT_NAME},
    {GET "=z\n", H2_FAULT_NAME},
    {GET "x:=z\n", H2_FAULT_NAME},
    /* pseudo-header fields */
    {GET "x=y\n:path=/\n", H2_FAULT_PSEUDO_ORDER},
    {GET "x=y\n:authority=h:8080\n", H2_FAULT_PSEUDO_ORDER},
    {GET "x=y\n:unknown=z\n", H2_FAULT_PSEUDO_ORDER},
    {GET ":path=/\n", H2_FAULT_PSEUDO_TWICE},
    {GET ":method=GET\n", H2_FAULT_PSEUDO_TWICE},
    {GET ":scheme=https\n", H2_FAULT_PSEUDO_TWICE},
    {GET ":authority=h:8080\n", H2_FAULT_PSEUDO_TWICE},
    {GET ":Path=/\n", H2_FAULT_PSEUDO_UNKNOWN},
    {GET ":status=200\n", H2_FAULT_PSEUDO_UNKNOWN},
    {GET ":protocol=websocket\n", H2_FAULT_PSEUDO_UNKNOWN},
    {GET ":=x\n", H2_FAULT_PSEUDO_UNKNOWN},
    {"", H2_FAULT_PSEUDO_MISSING},
    {":scheme=https\n:authority=h\n:path=/\n", H2_FAULT_PSEUDO_MISSING},
    {":method=GET\n:authority=h\n:path=/\n", H2_FAULT_PSEUDO_MISSING},
    {":method=GET\n:scheme=https\n:authority=h\n", H2_FAULT_PSEUDO_MISSING},
    {":method=GET\n:scheme=https\n:path=/\n", H2_FAULT_PSEUDO_MISSING},
    {":method=GET\n:scheme=https\n:path=/\nhost=h\n", 0},
    {":method=\n:scheme=https\n:authority=h\n:path=/\n", H2_FAULT_METHOD},
    {":method=G T\n:scheme=https\n:authority=h\n:path=/\n", H2_FAULT_METHOD},
    {":method=GET\n:scheme=\n:authority=h\n:path=/\n", H2_FAULT_SCHEME},
    {":method=GET\n:scheme=ftp\n:authority=h\n:path=/\n", H2_FAULT_SCHEME},
    {":method=GET\n:scheme=HTTPS\n:authority=h\n:path=/\n", 0},
    {":method=GET\n:scheme=http\n:authority=h\n:path=\n", H2_FAULT_PATH},
    {":method=GET\n:scheme=http\n:authority=h\n:path=p\n", H2_FAULT_PATH},
    {":method=GET\n:scheme=http\n:authority=h\n:path=/a b\n", H2_FAULT_PATH},
    {":method=GET\n:scheme=http\n:authority=h\n:path=/#f\n", H2_FAULT_PATH},
    {":method=GET\n:scheme=http\n:authority=h\n:path=http://h/\n", H2_FAULT_PATH},
    {":method=GET\n:scheme=http\n:authority=h\n:path=*\n", H2_FAULT_PATH},
    {":method=OPTIONS\n:scheme=http\n:authority=h\n:path=*\n", 0},
    {":method=GET\n:scheme=http\n:authority=\n:path=/\n", H2_FAULT_AUTHORITY},
    {":method=GET\n:scheme=http\n:authority=u@h\n:path=/\n", H2_FAULT_AUTHORITY},
    {GET "host=h:8080\n", 0},
    {GET "host=H:8080\n", 0},
    {GET "host=h\n", H2_FAULT_AUTHORITY},
    {GET "host=h:8080\nhost=h:8080\n", 0},
    {":method=GET\n:scheme=https\n:path=/\nhost=h\nhost=h\n", H2_FAULT_AUTHORITY},
    {":method=GET\n:scheme=https\n:path=/\nhost=\n", H2_FAULT_AUTHORITY},
    {":method=CONNECT\n:authority=h:443\n", 0},
    {":method=CONNECT\n:authority=h\n", H2_FAULT_AUTHORITY},
    {":method=CONNECT\n", H2_FAULT_PSEUDO_MISSING},
    {":method=CONNECT\n:authority=h:443\n:path=/\n", H2_FAULT_PSEUDO_UNKNOWN},
    {":method=CONNECT\n:scheme=http\n:authority=h:443\n", H2_FAULT_PSEUDO_UNKNOWN},
    /* extended CONNECT: RFC 8441 section 4 */
    {WEBSOCKET, 0},
    {WEBSOCKET "sec-websocket-version=13\n", 0},
    {WEBSOCKET ":protocol=websocket\n", H2_FAULT_PSEUDO_TWICE},
    {WEBSOCKET "x=y\n:protocol=websocket\n", H2_FAULT_PSEUDO_ORDER},
    {WEBSOCKET "upgrade=websocket\n", H2_FAULT_CONNECTION_FIELD},
    {WEBSOCKET "connection=upgrade\n", H2_FAULT_CONNECTION_FIELD},
    {CONNECT ":protocol=connect-udp\n", 0},
    {CONNECT ":protocol=\n", H2_FAULT_PROTOCOL},
    {CONNECT ":protocol=web socket\n", H2_FAULT_PROTOCOL},
    {CONNECT, H2_FAULT_PSEUDO_UNKNOWN},
    {":method=CONNECT\n:protocol=websocket\n:authority=h\n:path=/\n", H2_FAULT_PSEUDO_MISSING},
    {":method=CONNECT\n:protocol=websocket\n:authority=h\n:scheme=http\n", H2_FAULT_PSEUDO_MISSING},
    {":method=CONNECT\n:protocol=websocket\n:scheme=http\n:path=/\n", H2_FAULT_PSEUDO_MISSING},
    {":method=CONNECT\n:protocol=websocket\n:authority=h\n:scheme=ws\n:path=/\n", H2_FAULT_SCHEME},
    {":method=CONNECT\n:protocol=websocket\n:authority=h\n:scheme=http\n:path=*\n", H2_FAULT_PATH},
    {POST ":protocol=websocket\n", H2_FAULT_PSEUDO_UNKNOWN},
    /* fields of HTTP/1 */
    {GET "connection=close\n", H2_FAULT_CONNECTION_FIELD},
    {GET "connection=te\nte=trailers\n", H2_FAULT_CONNECTION_FIELD},
    {GET "keep-alive=1\n", H2_FAULT_CONNECTION_FIELD},
    {GET "proxy-connection=x\n", H2_FAULT_CONNECTION_FIELD},
    {GET "transfer-encoding=chunked\n", H2_FAULT_CONNECTION_FIELD},
    {GET "upgrade=h2c\n", H2_FAULT_CONNECTION_FIELD},
    {GET "te=trailers\n", 0},
    {GET "te=gzip\n", H2_FAULT_TE},
    {GET "te=trailers, gzip\n", H2_FAULT_TE},
    {GET "trailer=x\n", 0},
    /* lengths */
    {POST "content-length=5\n", 0},
    {POST "content-length=5\ncontent-length=5\n", H2_FAULT_CONTENT_LENGTH},
    {POST "content-length=\n", H2_FAULT_CONTENT_LENGTH},
    {POST "content-length=-1\n", H2_FAULT_CONTENT_LENGTH},
    {POST "content-length=5, 5\n", H2_FAULT_CONTENT_LENGTH},
    {POST "content-length=18446744073709551615\n", 0},
    {POST "content-length=18446744073709551616\n", H2_FAULT_CONTENT_LENGTH},
    /* statuses, which a fault goes before */
    {POST "expect=100-continue\n", 0},
    {POST "expect=magic\n", 417},
    {POST "expect=magic\nX=y\n", H2_FAULT_NAME},
    {GET "a=1\nb=2\nc=3\nd=4\n", 0},
    {GET "a=1\nb=2\nc=3\nd=4\ne=5\n", 431},
};

static struct h2_head head;

static int read_list(const char *lines)
{
    static char text[4096];
    memset(&head, 0xa5, sizeof(head)); /* nothing may be left as it was found */
    return h2_head_read(list_of(lines, text), 5, &head);
}

Test(h2_head, rows)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int r = read_list(rows[i].fields);
        cr_expect_eq(r, rows[i].result, "%s: %d", rows[i].fields, r);
    }
}

#define IS(span, literal)                                                                          \
    ((span).n == sizeof(literal) - 1 && memcmp((span).p, literal, (span).n) == 0)

/* The same members as a head of HTTP/1 has. */
Test(h2_head, members)
{
    cr_assert_eq(read_list(GET "x=y\nhost=h:8080\n"), 0);
    const struct http_head *http = &head.http;
    cr_expect(IS(http->method_text, "GET") && http->method == HTTP_GET);
    cr_expect(IS(http->path, "/p") && IS(http->query, "q") && http->form == HTTP_ORIGIN);
    cr_expect(IS(http->authority, "h:8080") && IS(head.scheme, "https"));
    cr_expect(!http->may_upgrade && !http->expect_continue && !http->content_coded);
    cr_assert_eq(http->nfields, 2);
    cr_expect(IS(http->fields[0].name, "host") && IS(http->fields[0].value, "h:8080"));
    cr_expect(IS(http->fields[1].name, "x") && !http->fields[1].hop_by_hop);
    cr_expect_not(head.has_length);

    cr_assert_eq(read_list(POST "content-length=7\nexpect=100-Continue\ncontent-encoding=br\n"
                                "te=trailers\n"),
        0);
    cr_expect(head.has_length && head.content_length == 7);
    cr_expect(http->expect_continue && http->content_coded && http->query.n == 0);
    cr_expect(http->fields[4].hop_by_hop && http->fields[4].known == HTTP_F_TE);

    cr_assert_eq(read_list(":method=OPTIONS\n:scheme=http\n:path=*\nhost=h\n"), 0);
    cr_expect(http->form == HTTP_ASTERISK && IS(http->authority, "h") && http->nfields == 1);
    cr_assert_eq(read_list(":method=CONNECT\n:authority=h:443\n"), 0);
    cr_expect(http->form == HTTP_AUTHORITY && http->method == HTTP_CONNECT);
    cr_expect(head.protocol.n == 0 && !http->websocket);

    cr_assert_eq(read_list(WEBSOCKET), 0);
    cr_expect(http->form == HTTP_ORIGIN && http->method == HTTP_CONNECT && http->websocket);
    cr_expect(IS(http->path, "/p") && IS(http->query, "q") && IS(http->authority, "h:8080"));
    cr_expect(IS(head.protocol, "websocket") && IS(head.scheme, "https"));
    cr_assert_eq(read_list(CONNECT ":protocol=WebSocket\n"), 0);
    cr_expect(http->websocket);
    cr_assert_eq(read_list(CONNECT ":protocol=websockets\n"), 0);
    cr_expect(!http->websocket && IS(head.protocol, "websockets"));
}

Test(h2_head, trailers)
{
    static const struct {
        const char *fields;
        enum h2_fault fault;
    } trailers[] = {
        {"", H2_OK},
        {"x=y\n", H2_OK},
        {":path=/\n", H2_FAULT_PSEUDO_ORDER},
        {"X=y\n", H2_FAULT_NAME},
        {"x=y \n", H2_FAULT_VALUE},
        {"connection=x\n", H2_FAULT_CONNECTION_FIELD},
        {"keep-alive=x\n", H2_FAULT_CONNECTION_FIELD},
        {"proxy-connection=x\n", H2_FAULT_CONNECTION_FIELD},
        {"x=y\ntransfer-encoding=chunked\n", H2_FAULT_CONNECTION_FIELD},
        {"upgrade=h2c\n", H2_FAULT_CONNECTION_FIELD},
        {"te=gzip\n", H2_FAULT_TE},
        {"te=trailers\n", H2_OK},
    };
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(trailers); i++)
        cr_expect_eq(h2_trailers_check(list_of(trailers[i].fields, text)), trailers[i].fault, "%s",
            trailers[i].fields);
}
