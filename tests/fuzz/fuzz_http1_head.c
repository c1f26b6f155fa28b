/* The input is a head, perhaps with more behind it; it is parsed within several limits. */

#include <string.h>

#include "frontd/codec/http1_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    PREFIXES_MAX = 300, /* prefixes that are tried of one input; more would only be slow */
};

static const struct http1_limits limits[] = {
    {.head_bytes = 65536, .fields = HTTP_FIELDS_MAX},
    {.head_bytes = 48, .fields = 3},
};

static struct http1_head head, other;

/* A copy that ends where the input ends, so that ASan sees a read past it. */
static char *copy_of(const uint8_t *data, size_t n)
{
    char *copy = malloc(n + (n == 0));
    CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    return copy;
}

static int parse_prefix(
    const uint8_t *data, size_t n, const struct http1_limits *limit, size_t *used)
{
    char *copy = copy_of(data, n);
    const int r = http1_head_parse(copy, n, limit, &other, used);
    free(copy);
    return r;
}

static void check_inside(struct span span, const char *p, size_t n)
{
    CHECK(span.p >= p && span.p <= p + n && span.n <= (size_t)(p + n - span.p));
}

static void check_spans(const char *p, size_t n)
{
    CHECK(head.text.p == p && head.text.n == n);
    check_inside(head.http.method_text, p, n);
    check_inside(head.target, p, n);
    check_inside(head.http.path, p, n);
    check_inside(head.http.query, p, n);
    check_inside(head.http.authority, p, n);
    for (size_t i = 0; i < head.http.nfields; i++) {
        check_inside(head.http.fields[i].name, p, n);
        check_inside(head.http.fields[i].value, p, n);
    }
}

/* What must hold of the bytes of any head that was accepted, seen without the parser's help. */
static void check_bytes(const char *p, size_t n)
{
    size_t lines = 0, empty = 0;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)p[i];
        CHECK(c >= ' ' || c == '\t' || c == '\r' || c == '\n');
        CHECK(c != 0x7f);
        CHECK(c != '\r' || (i + 1 < n && p[i + 1] == '\n'));
        CHECK(c != '\n' || (i > 0 && p[i - 1] == '\r'));
        lines += c == '\n';
    }
    while (n - 2 * empty >= 2 && p[2 * empty] == '\r')
        empty++;
    CHECK(lines == empty + 1 + head.http.nfields + 1);
    CHECK(n >= 4 && memcmp(p + n - 4, "\r\n\r\n", 4) == 0);
}

static bool is(struct span name, const char *text)
{
    return name.n == strlen(text) && strncasecmp(name.p, text, name.n) == 0;
}

/* What decides where the request ends and which route it takes. */
static void check_meaning(void)
{
    size_t hosts = 0, lengths = 0, codings = 0;
    for (size_t i = 0; i < head.http.nfields; i++) {
        const struct http_field *field = &head.http.fields[i];
        CHECK(field->name.n > 0 && field->known <= HTTP_F_UPGRADE);
        hosts += is(field->name, "host");
        /* A worker is shown the name that is routed by, and no other one. */
        CHECK(!is(field->name, "host") ||
              (field->value.n == head.http.authority.n &&
                  memcmp(field->value.p, head.http.authority.p, head.http.authority.n) == 0));
        codings += is(field->name, "transfer-encoding");
        CHECK(!is(field->name, "connection") || field->hop_by_hop);
        if (is(field->name, "content-length")) {
            char text[32] = "", again[32];
            size_t zeros = 0;
            while (zeros + 1 < field->value.n && field->value.p[zeros] == '0')
                zeros++;
            CHECK(field->value.n - zeros < sizeof(text));
            memcpy(text, field->value.p + zeros, field->value.n - zeros);
            snprintf(again, sizeof(again), "%llu", (unsigned long long)head.content_length);
            CHECK(strcmp(text, again) == 0);
            lengths++;
        }
    }
    CHECK(hosts == 1 || (hosts == 0 && head.minor == 0));
    CHECK(lengths == head.has_length && (head.has_length || head.content_length == 0));
    CHECK((codings > 0) == head.chunked && !(head.chunked && head.has_length));
    CHECK(!head.chunked || head.minor == 1);
    CHECK((head.http.form == HTTP_AUTHORITY) == (head.http.method == HTTP_CONNECT));
    CHECK(head.http.form != HTTP_ASTERISK || head.http.method == HTTP_OPTIONS);
    CHECK(head.http.form > HTTP_ABSOLUTE || (head.http.path.n > 0 && head.http.path.p[0] == '/'));
    CHECK(memchr(head.http.authority.p, '@', head.http.authority.n) == NULL);
}

/* Exactly its own size and number of fields pass, one less does not. */
static void check_limits(const uint8_t *data, size_t size, size_t used)
{
    struct http1_limits tight = {.head_bytes = (uint32_t)used, .fields = head.http.nfields};
    size_t again;
    CHECK(parse_prefix(data, size, &tight, &again) == 0 && again == used);
    tight.head_bytes--;
    const int r = parse_prefix(data, size, &tight, &again);
    CHECK(r == 414 || r == 431);
    tight.head_bytes++;
    if (tight.fields-- > 0)
        CHECK(parse_prefix(data, size, &tight, &again) == 431);
}

/* Every prefix gives the same or HTTP1_E_MORE, and after the first that is decided, all are. */
static void check_prefixes(
    const uint8_t *data, size_t size, const struct http1_limits *limit, int result, size_t used)
{
    const size_t step = size / PREFIXES_MAX + 1;
    bool decided = false;
    for (size_t n = 0; n < size; n += step) {
        size_t again;
        const int r = parse_prefix(data, n, limit, &again);
        if (r == HTTP1_E_MORE && !decided) {
            CHECK(result != 0 || n < used);
            continue;
        }
        decided = true;
        CHECK(r == result && (r != 0 || (again == used && n >= used)));
    }
}

static void check_one(const uint8_t *data, size_t size, const struct http1_limits *limit)
{
    size_t used = SIZE_MAX;
    char *copy = copy_of(data, size);
    const int r = http1_head_parse(copy, size, limit, &head, &used);
    if (r == 0) {
        CHECK(used <= size && used <= limit->head_bytes && head.http.nfields <= limit->fields);
        check_spans(copy, used);
        check_bytes(copy, used);
        check_meaning();
        check_limits(data, size, used);
    } else {
        CHECK(used == SIZE_MAX);
        CHECK(r == HTTP1_E_MORE || r == 400 || r == 414 || r == 417 || r == 431 || r == 501 ||
              r == 505);
        CHECK(r != HTTP1_E_MORE || size < limit->head_bytes);
    }
    free(copy);
    check_prefixes(data, size, limit, r, used);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        check_one(data, size, &limits[i]);
    return 0;
}
