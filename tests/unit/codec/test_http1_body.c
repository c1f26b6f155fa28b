#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/http1_body.h"

struct row {
    const char *input;
    size_t n;
    int end;           /* event or error that it comes to */
    const char *data;  /* body bytes until then */
    size_t unused;     /* bytes behind the end, for HTTP1_BODY_DONE */
    uint32_t trailers; /* limit; 0: none to speak of */
};

#define IN(literal) literal, sizeof(literal) - 1

/* What came of an input so far. */
struct outcome {
    struct http1_chunked state;
    char data[256];
    size_t n;    /* bytes of data */
    size_t used; /* bytes of input */
    int end;
};

/* Feeds one part, as a copy on the heap that ends where the part ends: ASan sees the rest. */
static void feed(struct outcome *outcome, const char *p, size_t n, uint32_t trailers)
{
    char *copy = malloc(n + (n == 0));
    cr_assert_not_null(copy);
    memcpy(copy, p, n);
    size_t at = 0;
    do {
        size_t used = SIZE_MAX;
        struct span data = {NULL, 0};
        outcome->end = http1_chunked_feed(
            &outcome->state, copy + at, n - at, trailers, &used, &data);
        if (outcome->end < 0) {
            cr_assert(used == SIZE_MAX && data.p == NULL, "outputs are untouched on failure");
            break;
        }
        cr_assert(used <= n - at);
        if (outcome->end == HTTP1_BODY_DATA) {
            cr_assert(data.n > 0 && data.p >= copy + at && data.p + data.n == copy + at + used);
            cr_assert(outcome->n + data.n <= sizeof(outcome->data));
            memcpy(outcome->data + outcome->n, data.p, data.n);
            outcome->n += data.n;
        }
        at += used;
        outcome->used += used;
        if (outcome->end == HTTP1_BODY_MORE)
            cr_assert_eq(at, n);
    } while (outcome->end == HTTP1_BODY_DATA);
    free(copy);
}

static void feed_parts(const struct row *row, size_t first, size_t step, struct outcome *outcome)
{
    const uint32_t trailers = row->trailers ? row->trailers : 65536;
    *outcome = (struct outcome){.end = HTTP1_BODY_MORE};
    feed(outcome, row->input, first, trailers);
    for (size_t at = first; at < row->n && outcome->end == HTTP1_BODY_MORE; at += step)
        feed(outcome, row->input + at, MIN(step, row->n - at), trailers);
}

static void judge(const struct row *row, const struct outcome *outcome)
{
    cr_assert_eq(
        outcome->end, row->end, "\"%s\": %d instead of %d", row->input, outcome->end, row->end);
    cr_assert(outcome->n == strlen(row->data) && memcmp(outcome->data, row->data, outcome->n) == 0,
        "\"%s\": \"%.*s\"", row->input, (int)outcome->n, outcome->data);
    if (row->end == HTTP1_BODY_DONE)
        cr_assert_eq(
            outcome->used, row->n - row->unused, "\"%s\": %zu used", row->input, outcome->used);
}

static void check(const struct row *row)
{
    struct outcome outcome;
    feed_parts(row, row->n, 1, &outcome);
    judge(row, &outcome);
    feed_parts(row, 0, 1, &outcome);
    judge(row, &outcome);
    for (size_t split = 0; split <= row->n; split++) {
        feed_parts(row, split, row->n, &outcome);
        judge(row, &outcome);
    }
}

static void check_all(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(&rows[i]);
}

#define END "0\r\n\r\n"

Test(http1_body, chunks)
{
    static const struct row rows[] = {
        {IN(""), HTTP1_BODY_MORE, "", 0, 0},
        {IN(END), HTTP1_BODY_DONE, "", 0, 0},
        {IN("0000\r\n\r\n"), HTTP1_BODY_DONE, "", 0, 0},
        {IN(END "GET / HTTP/1.1\r\n"), HTTP1_BODY_DONE, "", 16, 0},
        {IN("5\r\nhello\r\n" END), HTTP1_BODY_DONE, "hello", 0, 0},
        {IN("5\r\nhello\r\n006\r\n world\r\n" END END), HTTP1_BODY_DONE, "hello world", 5, 0},
        {IN("a\r\n0123456789\r\nA\r\n0123456789\r\n" END), HTTP1_BODY_DONE, "01234567890123456789",
            0, 0},
        {IN("10\r\n0123456789abcdef\r\n" END), HTTP1_BODY_DONE, "0123456789abcdef", 0, 0},
        {IN("4\r\n\r\n\r\n\r\n" END), HTTP1_BODY_DONE, "\r\n\r\n", 0, 0},
        {IN("5\r\nhello\r\n0\r\n\r"), HTTP1_BODY_MORE, "hello", 0, 0},
        {IN("ffffffffffffffff\r\nx"), HTTP1_BODY_MORE, "x", 0, 0},
        {IN("FFFFFFFFFFFFFFFF\r\nx"), HTTP1_BODY_MORE, "x", 0, 0},
        {IN("00000ffffffffffffffff\r\nx"), HTTP1_BODY_MORE, "x", 0, 0},
        {IN("10000000000000000\r\n"), -400, "", 0, 0},
        {IN("fffffffffffffffff\r\n"), -400, "", 0, 0},

        {IN("\r\n"), -400, "", 0, 0},
        {IN("\n"), -400, "", 0, 0},
        {IN("x"), -400, "", 0, 0},
        {IN("g\r\n"), -400, "", 0, 0},
        {IN("@\r\n"), -400, "", 0, 0},
        {IN("`\r\n"), -400, "", 0, 0},
        {IN("/\r\n"), -400, "", 0, 0},
        {IN(":\r\n"), -400, "", 0, 0},
        {IN("-1\r\n"), -400, "", 0, 0},
        {IN("+1\r\n"), -400, "", 0, 0},
        {IN("0x1\r\n"), -400, "", 0, 0},
        {IN(" 1\r\n"), -400, "", 0, 0},
        {IN("1 \r\n"), -400, "", 0, 0},
        {IN("1 1\r\n"), -400, "", 0, 0},
        {IN("1\n"), -400, "", 0, 0},
        {IN("1\r\r\n"), -400, "", 0, 0},
        {IN("1\ra"), -400, "", 0, 0},
        {IN("\0\r\n"), -400, "", 0, 0},
        {IN("1\r\nab\r\n"), -400, "a", 0, 0},
        {IN("1\r\na\n"), -400, "a", 0, 0},
        {IN("1\r\na\rx"), -400, "a", 0, 0},
        {IN("1\r\na0\r\n\r\n"), -400, "a", 0, 0},
        {IN("1\r\na\r\n\r\n"), -400, "a", 0, 0},
        {IN("0\r\n\n"), -400, "", 0, 0},
        {IN("0\r\n\rx"), -400, "", 0, 0},
    };
    check_all(rows, ARRAY_LEN(rows));
}

/* A size line with the extensions of each row, for a chunk and for the last chunk. */
Test(http1_body, extensions)
{
    static const struct {
        const char *text;
        bool ok;
    } rows[] = {
        {";a", true},
        {";a;b", true},
        {";a=b", true},
        {";a=b;c=d", true},
        {" ; a = b ; c ; d", true},
        {"\t;\t a\t =\t b\t ;\tc", true},
        {";a=\"\"", true},
        {";a=\"b c\";d", true},
        {";a=\"b\" ;d=\"\"", true},
        {";a=\"\\\"\\\\;\t\xc3\xa4\"", true},
        {";!#$%&'*+-.^_`|~=1", true},
        {";", false},
        {"; ", false},
        {";;", false},
        {";a;", false},
        {";=b", false},
        {";a=", false},
        {";a= ", false},
        {";a=;b", false},
        {";a=b=c", false},
        {";a b", false},
        {";a=b c", false},
        {";a ", false},
        {";a=b ", false},
        {";a=\"b\" ", false},
        {";a=\"b", false},
        {";a=\"b\\", false},
        {";a=\"b\"c", false},
        {";a=\"b\"=c", false},
        {";a=b\"c\"", false},
        {";\"a\"=b", false},
        {";a=\"\x01\"", false},
        {";a=\"\x7f\"", false},
        {";a=\"\\\x01\"", false},
        {";a=\"\n\"", false},
        {";a=\"\\\n\"", false},
        {";\xc3\xa4", false},
        {";a=\xc3\xa4", false},
        {";a\n", false},
        {";a=b\n", false},
        {" a", false},
        {",a", false},
    };
    char text[256];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int n = snprintf(text, sizeof(text), "1%s\r\nx\r\n0%s\r\n\r\n", rows[i].text, rows[i].text);
        const struct row chunk = {
            text, (size_t)n, rows[i].ok ? HTTP1_BODY_DONE : -400, rows[i].ok ? "x" : "", 0, 0};
        check(&chunk);
        n = snprintf(text, sizeof(text), "0%s\r\n\r\n", rows[i].text);
        const struct row last = {text, (size_t)n, chunk.end, "", 0, 0};
        check(&last);
    }
}

Test(http1_body, trailers)
{
    static const struct row rows[] = {
        {IN("0\r\na: b\r\n\r\n"), HTTP1_BODY_DONE, "", 0, 0},
        {IN("0\r\na:\r\nX-y:\t\xc3\xa4 z \r\n\r\n\r\n"), HTTP1_BODY_DONE, "", 2, 0},
        {IN("0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP1_BODY_DONE, "", 0,
            0},
        {IN("1\r\nx\r\n0\r\na: b\r\n"), HTTP1_BODY_MORE, "x", 0, 0},
        {IN("0\r\n: b\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na : b\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\n a: b\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na: b\r\n c\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na: b\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na: b\rc\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na: b\r\n\n"), -400, "", 0, 0},
        {IN("0\r\na: \0\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\na: \x7f\r\n\r\n"), -400, "", 0, 0},
        {IN("0\r\n\xc3\xa4: b\r\n\r\n"), -400, "", 0, 0},

        /* the CRLF of each counts, the empty line at the end does not */
        {IN("0\r\na: b\r\nc:\r\n\r\n"), HTTP1_BODY_DONE, "", 0, 10},
        {IN("0\r\na: b\r\nc:\r\n\r\n"), -431, "", 0, 9},
        {IN("0\r\na: b\r\nc: \r\n\r\n"), -431, "", 0, 10},
        {IN("0\r\na"), HTTP1_BODY_MORE, "", 0, 1},
        {IN("0\r\na:"), -431, "", 0, 1},
        /* long size lines do not count as trailers */
        {IN("1;a=bcdefghijklmnopqrstuvwxyz\r\nx\r\n0;a=bcdefgh\r\na:\r\n\r\n"), HTTP1_BODY_DONE,
            "x", 0, 4},
    };
    check_all(rows, ARRAY_LEN(rows));

    struct http1_chunked state = {0};
    struct span data;
    size_t used;
    cr_assert_eq(http1_chunked_feed(&state, IN(END), 0, &used, &data), HTTP1_BODY_DONE);
    state = (struct http1_chunked){0};
    cr_assert_eq(http1_chunked_feed(&state, IN("0\r\na"), 0, &used, &data), -431);
}

Test(http1_body, limit_of_a_size_line)
{
    for (int over = 0; over < 2; over++) {
        /* with digits, with an extension; the CRLF counts */
        for (int extension = 0; extension < 2; extension++) {
            char text[HTTP1_CHUNK_LINE_MAX + 16];
            const size_t line = HTTP1_CHUNK_LINE_MAX - 2 + (size_t)over;
            memset(text, '0', line);
            if (extension)
                memcpy(text, "1;", 2);
            else
                text[line - 1] = '1';
            memcpy(text + line, "\r\nx\r\n" END, 10);
            const struct row row = {
                text, line + 10, over ? -400 : HTTP1_BODY_DONE, over ? "" : "x", 0, 0};
            check(&row);
        }
    }
}

/* Chunks of `data` bytes, with size lines of `line` bytes: how many pass, up to `most`? */
static int chunks_that_pass(size_t data_size, size_t line, int most)
{
    static char text[65536];
    struct http1_chunked state = {0};
    int n = snprintf(text, sizeof(text), "%zx", data_size);
    if (line > (size_t)n + 2) {
        text[n] = ';';
        memset(text + n + 1, 'a', line - 2 - (size_t)n - 1);
    }
    memcpy(text + line - 2, "\r\n", 2);
    memset(text + line, 'x', data_size);
    memcpy(text + line + data_size, "\r\n", 2);
    const size_t size = line + data_size + 2;
    for (int i = 0; i < most; i++) {
        for (size_t at = 0, used; at < size; at += used) {
            struct span data;
            if (http1_chunked_feed(&state, text + at, size - at, 0, &used, &data) < 0)
                return i;
        }
    }
    return most;
}

Test(http1_body, limit_of_size_lines_without_data)
{
    cr_assert_eq(chunks_that_pass(1, 3, 100000), 100000);
    cr_assert_eq(chunks_that_pass(1, 18, 100000), 100000);
    cr_assert_eq(chunks_that_pass(1, 19, 100000), 16 * 1024);
    cr_assert_eq(chunks_that_pass(1, 1024, 100), 16); /* 1006 too many each time */
    cr_assert_eq(chunks_that_pass(504, 1024, 10000), 10000);
    cr_assert_eq(chunks_that_pass(40000, 1024, 1000), 1000);
}

Test(http1_body, nothing_after_the_end)
{
    struct http1_chunked state = {0};
    struct span data = {NULL, 0};
    size_t used;
    cr_assert_eq(http1_chunked_feed(&state, IN(END "5\r\n"), 0, &used, &data), HTTP1_BODY_DONE);
    cr_assert_eq(used, 5);
    cr_assert_eq(http1_chunked_feed(&state, IN("5\r\n"), 0, &used, &data), HTTP1_BODY_DONE);
    cr_assert_eq(used, 0);
    cr_assert_null(data.p);
}
