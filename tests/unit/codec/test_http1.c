#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "frontd/codec/http1.h"

enum {
    BODY_MAX = 20, /* bytes, in the rows below */
    EVENTS_MAX = 4096,
};

static const struct http1_config config = {
    .head = {.head_bytes = 256, .fields = 8},
    .body = BODY_MAX,
};

/* What came of an input so far, and the bytes of the request that is not complete. */
struct outcome {
    struct http1 http1;
    char pending[EVENTS_MAX];
    size_t n;
    char events[EVENTS_MAX]; /* one a line; without HTTP1_CONTINUE */
    unsigned continued;      /* how often HTTP1_CONTINUE was given, */
    size_t continued_at;     /* and how many bytes had been fed then */
    size_t fed;
    bool failed;
};

static const char *method_name(unsigned method)
{
    static const char *const names[] = {
        "other", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"};
    return method < ARRAY_LEN(names) ? names[method] : "?";
}

static void note(struct outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void note(struct outcome *outcome, const char *format, ...)
{
    size_t n = strlen(outcome->events);
    va_list args;
    va_start(args, format);
    vsnprintf(outcome->events + n, sizeof(outcome->events) - n, format, args);
    va_end(args);
}

/* Takes one event from the `n` bytes at `p`. Returns how many at its start are done with. */
static size_t take_event(struct outcome *outcome, char *p, size_t n, bool *ret_more)
{
    static struct http1_head head;
    memset(&head, 0xa5, sizeof(head)); /* nothing may be left as it was found */
    struct http1_result result = http1_feed(&outcome->http1, p, n, &config, &head);
    *ret_more = false;
    switch (result.event) {
    case HTTP1_CONTINUE:
        outcome->continued++;
        outcome->continued_at = outcome->fed;
        cr_assert(head.http.expect_continue && result.kept == outcome->http1.head_len);
        break;
    case HTTP1_LARGE: cr_assert_fail("it is not asked for"); break;
    case HTTP1_MORE: break;
    case HTTP1_REQUEST:
        cr_assert(result.used > 0 && result.used <= n);
        cr_assert(result.body.p >= p && result.body.p + result.body.n <= p + result.used);
        cr_assert(head.http.path.p >= p && head.http.path.p + head.http.path.n <= p + result.used);
        static const struct http1 zero;
        cr_assert_eq(memcmp(&outcome->http1, &zero, sizeof(zero)), 0, "ready for the next one");
        note(outcome, "%s %.*s \"%.*s\"%s\n", method_name(head.http.method), (int)head.http.path.n,
            head.http.path.p, (int)result.body.n, result.body.p, head.keep_alive ? "" : " close");
        *ret_more = true;
        return result.used;
    case HTTP1_ERROR:
        note(outcome, "%u %s%s\n", result.status, method_name(head.http.method),
            result.head_known ? " known" : "");
        if (result.head_known)
            cr_assert(head.http.path.p >= p && head.http.path.p + head.http.path.n <= p + n);
        outcome->failed = true;
        return n;
    }
    cr_assert(result.kept <= n);
    memcpy(outcome->pending, p, result.kept);
    outcome->n = result.kept;
    return n;
}

/* The state as another process would have it, which is given the same bytes. */
static void move(struct outcome *outcome)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    http1_save(&outcome->http1, &pack);
    memset(&outcome->http1, 0xa5, sizeof(outcome->http1));
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    struct span bytes = {outcome->pending, outcome->n};
    cr_assert(!pack.failed && http1_restore(&outcome->http1, &unpack, bytes) == 0);
    cr_assert_eq(unpack_end(&unpack), 0);
    buf_deinit(&state);
}

/*
 * Feeds one more part with what is kept before it, as a copy on the heap that ends where the part
 * ends: ASan sees the rest.
 */
static void feed(struct outcome *outcome, const char *part, size_t part_n)
{
    size_t n = outcome->n + part_n;
    if (n == 0 || outcome->failed)
        return;
    char *copy = malloc(n);
    cr_assert_not_null(copy);
    memcpy(copy, outcome->pending, outcome->n);
    memcpy(copy + outcome->n, part, part_n);
    outcome->n = 0;
    outcome->fed += part_n;
    bool more = true;
    for (size_t at = 0; more && at < n;) {
        /* Each request is given in a copy of its own, too. */
        char *rest = malloc(n - at);
        cr_assert_not_null(rest);
        memcpy(rest, copy + at, n - at);
        at += take_event(outcome, rest, n - at, &more);
        free(rest);
    }
    free(copy);
}

static bool moves; /* between two parts, to another process */

static void feed_parts(struct outcome *outcome, struct span input, size_t first, size_t step)
{
    *outcome = (struct outcome){0};
    feed(outcome, input.p, first);
    for (size_t at = first; at < input.n; at += step) {
        if (moves && !outcome->failed)
            move(outcome);
        feed(outcome, input.p + at, MIN(step, input.n - at));
    }
}

struct row {
    struct span input;
    const char *events;
    bool incomplete; /* bytes of a further request are left */
};

static void judge(const struct row *row, const struct outcome *outcome, const char *how, size_t at)
{
    cr_assert_str_eq(
        outcome->events, row->events, "\"%s\" %s %zu:\n%s", row->input.p, how, at, outcome->events);
    bool kept = outcome->n > 0;
    cr_assert_eq(kept, row->incomplete, "\"%s\" %s %zu: %zu bytes are left", row->input.p, how, at,
        outcome->n);
}

static void check(const struct row *row)
{
    static struct outcome outcome;
    feed_parts(&outcome, row->input, row->input.n, 1);
    judge(row, &outcome, "whole", 0);
    for (size_t step = 1; step <= 3; step++) {
        feed_parts(&outcome, row->input, 0, step);
        judge(row, &outcome, "in steps of", step);
    }
    for (size_t split = 0; split <= row->input.n; split++) {
        feed_parts(&outcome, row->input, split, row->input.n);
        judge(row, &outcome, "split at", split);
    }
}

static void check_all(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < 2 * n; i++) {
        moves = i >= n;
        check(&rows[i % n]);
    }
    moves = false;
}

#define H       "Host: h\r\n"
#define GET     "GET /g HTTP/1.1\r\n" H "\r\n"
#define POST(n) "POST /p HTTP/1.1\r\n" H "Content-Length: " #n "\r\n\r\n"
#define CHUNKED "PUT /c HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
#define LAST    "0\r\n\r\n"

#define BODY_20 "01234567890123456789"

Test(http1, requests)
{
    const struct row rows[] = {
        {SPAN(""), "", false},
        {SPAN("G"), "", true},
        {SPAN("GET /g HTTP/1.1\r\n" H), "", true},
        {SPAN(GET), "GET /g \"\"\n", false},
        {SPAN("GET / HTTP/1.0\r\n\r\n"), "GET / \"\" close\n", false},
        {SPAN("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n"), "GET / \"\" close\n", false},
        {SPAN("\r\n\r\n" GET), "GET /g \"\"\n", false},
        {SPAN("BREW /tea HTTP/1.1\r\n" H "\r\n"), "other /tea \"\"\n", false},
        {SPAN(POST(0)), "POST /p \"\"\n", false},
        {SPAN(POST(5) "hello"), "POST /p \"hello\"\n", false},
        {SPAN(POST(5) "hell"), "", true},
        {SPAN(POST(5)), "", true},
        {SPAN(POST(2) "\r\n"), "POST /p \"\r\n\"\n", false},
        {SPAN("GET /b HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nab"), "GET /b \"ab\"\n", false},
        {SPAN(CHUNKED LAST), "PUT /c \"\"\n", false},
        {SPAN(CHUNKED), "", true},
        {SPAN(CHUNKED "5\r\nhello\r\n" LAST), "PUT /c \"hello\"\n", false},
        {SPAN(CHUNKED "5\r\nhello\r\n0\r\n\r"), "", true},
        {SPAN(CHUNKED "1;x=y\r\na\r\n02\r\nbc\r\n3\r\ndef\r\n0\r\nT: t\r\n\r\n"),
            "PUT /c \"abcdef\"\n", false},
        {SPAN(CHUNKED "6\r\n0\r\n\r\nx\r\n" LAST), "PUT /c \"0\r\n\r\nx\"\n", false},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(http1, pipelined_requests)
{
    const struct row rows[] = {
        {SPAN(GET GET GET), "GET /g \"\"\nGET /g \"\"\nGET /g \"\"\n", false},
        {SPAN(GET "\r\n" GET "\r\n"), "GET /g \"\"\nGET /g \"\"\n", true},
        {SPAN(POST(3) "abc" GET POST(1) "d"), "POST /p \"abc\"\nGET /g \"\"\nPOST /p \"d\"\n",
            false},
        {SPAN(CHUNKED "2\r\nab\r\n" LAST CHUNKED "1\r\nc\r\n1\r\nd\r\n" LAST GET),
            "PUT /c \"ab\"\nPUT /c \"cd\"\nGET /g \"\"\n", false},
        {SPAN(CHUNKED "1\r\na\r\n0\r\nT: t\r\n\r\n" POST(2) "bc" CHUNKED "1\r\nd"),
            "PUT /c \"a\"\nPOST /p \"bc\"\n", true},
        {SPAN(GET POST(3) "ab"), "GET /g \"\"\n", true},
        {SPAN(GET "x"), "GET /g \"\"\n", true},
        {SPAN(GET "\n" GET), "GET /g \"\"\n400 other\n", false},
        {SPAN(POST(1) "ab" GET), "POST /p \"a\"\nother /g \"\"\n", false},
        {SPAN(CHUNKED LAST "0\r\n"), "PUT /c \"\"\n400 other\n", false},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(http1, errors)
{
    const struct row rows[] = {
        {SPAN("\n"), "400 other\n", false},
        {SPAN("GET  / HTTP/1.1\r\n"), "400 GET\n", false},
        {SPAN("HEAD / HTTP/1.1\r\n\r\n"), "400 HEAD\n", false},
        {SPAN("HEAD / HTTP/2.0\r\n"), "505 HEAD\n", false},
        {SPAN("HEAD / HTTP/1.1\r\n" H "Expect: tea\r\n\r\n"), "417 HEAD\n", false},
        {SPAN("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"), "501 PUT\n",
            false},
        {SPAN("PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
            "400 PUT\n", false},
        {SPAN(GET "HEAD /x y\r\n"), "GET /g \"\"\n400 HEAD\n", false},
        /* what is wrong with a body: its request is known */
        {SPAN(CHUNKED "x"), "400 PUT known\n", false},
        {SPAN(CHUNKED "1\r\nab"), "400 PUT known\n", false},
        {SPAN(CHUNKED "1\nab"), "400 PUT known\n", false},
        {SPAN(CHUNKED "fffffffg"), "400 PUT known\n", false},
        {SPAN(CHUNKED "10000000000000000"), "400 PUT known\n", false},
        {SPAN(CHUNKED "0\r\nT\r\n"), "400 PUT known\n", false},
        {SPAN("HEAD / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nabc"),
            "400 HEAD known\n", false},
        {SPAN(GET CHUNKED "1\r\na\r\n" LAST CHUNKED "-1"),
            "GET /g \"\"\nPUT /c \"a\"\n400 PUT known\n", false},
    };
    check_all(rows, ARRAY_LEN(rows));
}

Test(http1, limit_of_the_body)
{
    const struct row rows[] = {
        {SPAN(POST(19) "0123456789012345678"), "POST /p \"0123456789012345678\"\n", false},
        {SPAN(POST(20) BODY_20), "POST /p \"" BODY_20 "\"\n", false},
        {SPAN(POST(21)), "413 POST known\n", false},
        {SPAN(POST(18446744073709551615)), "413 POST known\n", false},
        {SPAN(CHUNKED "14\r\n" BODY_20 "\r\n" LAST), "PUT /c \"" BODY_20 "\"\n", false},
        {SPAN(CHUNKED "13\r\n0123456789012345678\r\n1\r\n9\r\n" LAST), "PUT /c \"" BODY_20 "\"\n",
            false},
        /* what a chunk announces counts, as soon as its line is complete */
        {SPAN(CHUNKED "14"), "", true},
        {SPAN(CHUNKED "15"), "", true},
        {SPAN(CHUNKED "15\r\n"), "413 PUT known\n", false},
        {SPAN(CHUNKED "ffffffffffffffff\r\n"), "413 PUT known\n", false},
        {SPAN(CHUNKED "fffffffffffffff0\r\na"), "413 PUT known\n", false},
        {SPAN(CHUNKED "14\r\n" BODY_20 "\r\n1\r\n"), "413 PUT known\n", false},
        {SPAN(CHUNKED "1\r\na\r\n13\r\n"), "", true},
        {SPAN(CHUNKED "1\r\na\r\n14\r\n"), "413 PUT known\n", false},
        {SPAN(CHUNKED "1\r\na\r\nffffffffffffffff\r\nb"), "413 PUT known\n", false},
    };
    check_all(rows, ARRAY_LEN(rows));
}

/* A head of exactly so many bytes as config.head allows, then one and two more. */
Test(http1, limit_of_the_head)
{
    static const char start[] = "PUT /c HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nX: ";
    for (size_t over = 0; over <= 2; over++) {
        char text[512];
        const size_t head = config.head.head_bytes + over;
        memcpy(text, start, sizeof(start) - 1);
        memset(text + sizeof(start) - 1, 'x', head - sizeof(start) + 1 - 4);
        memcpy(text + head - 4, "\r\n\r\n1\r\na\r\n" LAST, 16);
        const struct row row = {
            {text, head + 11}, over == 0 ? "PUT /c \"a\"\n" : "431 PUT\n", false};
        check(&row);
    }
    for (size_t over = 0; over < 2; over++) {
        char text[1024] = CHUNKED "0\r\nT:";
        size_t n = strlen(text);
        size_t trailer = config.head.head_bytes + over - 2;
        memset(text + n, 't', trailer - 2);
        memcpy(text + n + trailer - 2, "\r\n\r\n", 5);
        const struct row row = {
            {text, n + trailer + 2}, over == 0 ? "PUT /c \"\"\n" : "431 PUT known\n", false};
        check(&row);
    }
}

/* HTTP1_CONTINUE comes where the head is there and nothing of the body, and never else. */
Test(http1, expect_continue)
{
#define EXPECT "Expect: 100-continue\r\n"
    const struct {
        struct span head, body;
        const char *events;
        bool asks;
    } rows[] = {
        {SPAN("POST /p HTTP/1.1\r\n" H EXPECT "Content-Length: 5\r\n\r\n"), SPAN("hello"),
            "POST /p \"hello\"\n", true},
        {SPAN("POST /p HTTP/1.1\r\n" H EXPECT "Transfer-Encoding: chunked\r\n\r\n"),
            SPAN("5\r\nhello\r\n" LAST), "POST /p \"hello\"\n", true},
        {SPAN("POST /p HTTP/1.1\r\n" H EXPECT "Content-Length: 0\r\n\r\n"), SPAN(""),
            "POST /p \"\"\n", false},
        {SPAN("POST /p HTTP/1.1\r\n" H EXPECT "\r\n"), SPAN(""), "POST /p \"\"\n", false},
        {SPAN("POST /p HTTP/1.0\r\n" EXPECT "Content-Length: 1\r\n\r\n"), SPAN("a"),
            "POST /p \"a\" close\n", false},
        {SPAN("POST /p HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\n"), SPAN("a"), "POST /p \"a\"\n",
            false},
        {SPAN("POST /p HTTP/1.1\r\n" H EXPECT "Content-Length: 21\r\n\r\n"), SPAN(BODY_20),
            "413 POST known\n", false},
    };
    static struct outcome outcome;
    for (size_t row = 0; row < 2 * ARRAY_LEN(rows); row++) {
        const size_t i = row % ARRAY_LEN(rows);
        moves = row >= ARRAY_LEN(rows);
        char text[512];
        const size_t head = rows[i].head.n;
        memcpy(text, rows[i].head.p, head);
        memcpy(text + head, rows[i].body.p, rows[i].body.n);
        const struct span input = {text, head + rows[i].body.n};
        for (size_t split = 0; split <= input.n; split++) {
            feed_parts(&outcome, input, split, input.n);
            cr_assert_str_eq(outcome.events, rows[i].events);
            cr_assert_eq(outcome.continued, rows[i].asks && split == head, "%s split at %zu: %u",
                rows[i].head.p, split, outcome.continued);
        }
        feed_parts(&outcome, input, 0, 1);
        cr_assert_str_eq(outcome.events, rows[i].events);
        cr_assert_eq(outcome.continued, rows[i].asks);
        cr_assert(!rows[i].asks || outcome.continued_at == head);
        /* and again for the next request on the connection */
        const struct http1 zero = {0};
        cr_assert(outcome.failed || memcmp(&outcome.http1, &zero, sizeof(zero)) == 0);
    }
}

/* The bytes that are kept are those of the head and of the body as decoded so far. */
Test(http1, what_is_kept)
{
    static const char head[] = CHUNKED;
    static const struct {
        const char *body;
        size_t kept; /* bytes after the head */
    } rows[] = {
        {"", 0},
        {"5", 0},
        {"5;ext=value\r\n", 0},
        {"5\r\nhel", 3},
        {"5\r\nhello\r\n", 5},
        {"5\r\nhello\r\n1\r\n!\r\n", 6},
        {"5\r\nhello\r\n0\r\nTrailer: x\r\n", 5},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static struct outcome outcome;
        char text[256];
        int n = snprintf(text, sizeof(text), "%s%s", head, rows[i].body);
        feed_parts(&outcome, (struct span){text, (size_t)n}, (size_t)n, 1);
        cr_assert_str_eq(outcome.events, "");
        cr_assert_eq(outcome.n, sizeof(head) - 1 + rows[i].kept, "\"%s\"", rows[i].body);
        cr_assert_eq(memcmp(outcome.pending + sizeof(head) - 1, "hello!", rows[i].kept), 0);
    }
}

/* What feeding the start of a request with some limits leaves behind. */
static struct outcome *left_behind(const char *text)
{
    static struct outcome outcome;
    feed_parts(&outcome, (struct span){text, strlen(text)}, strlen(text), 1);
    cr_assert(!outcome.failed && outcome.n > 0);
    return &outcome;
}

/* Another process may have other limits: they are for what it reads, not for what was read. */
Test(http1, other_limits_after_the_move)
{
    static struct http1_head head;
    static const struct {
        const char *before, *after;
        struct http1_config limits;
        unsigned status; /* 0: it is taken */
    } rows[] = {
        {POST(5) "he", "llo", {{16, 8}, 20, false}, 0},
        {POST(5) "he", "llo", {{256, 0}, 5, false}, 0},
        {POST(5) "he", "llo", {{256, 8}, 4, false}, 413},
        {CHUNKED "5\r\nhe", "llo\r\n" LAST, {{16, 0}, 5, false}, 0},
        {CHUNKED "5\r\nhe", "llo\r\n" LAST, {{256, 8}, 4, false}, 413},
        {CHUNKED "5\r\nhello", "\r\n" LAST, {{256, 8}, 4, false}, 413},
        {CHUNKED "5\r\nhello\r\n0\r\nT", ": t\r\n\r\n", {{4, 8}, 5, false}, 431},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct outcome *outcome = left_behind(rows[i].before);
        move(outcome);
        size_t n = strlen(rows[i].after);
        memcpy(outcome->pending + outcome->n, rows[i].after, n);
        struct http1_result result = http1_feed(
            &outcome->http1, outcome->pending, outcome->n + n, &rows[i].limits, &head);
        cr_expect_eq(result.event, rows[i].status == 0 ? HTTP1_REQUEST : HTTP1_ERROR, "row %zu", i);
        cr_expect_eq(result.status, rows[i].status, "row %zu: %u", i, result.status);
        if (result.event == HTTP1_REQUEST)
            cr_expect(result.body.n == 5 && memcmp(result.body.p, "hello", 5) == 0);
    }
}

/* No state is believed that these bytes cannot have led to; and none that is crashes anything. */
Test(http1, states_that_cannot_be)
{
    static const char *const texts[] = {"G", POST(5) "he", CHUNKED "5\r\nhe", CHUNKED "5",
        CHUNKED "5\r\nhello\r\n0\r\nT",
        "POST /p HTTP/1.1\r\n" H EXPECT "Content-Length: 1\r\n\r\n"};
    static const unsigned char flips[] = {0x01, 0x02, 0x10, 0x80, 0xff};
    size_t refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct outcome before = *left_behind(texts[i]);
        struct buf state = {0};
        struct pack pack = {.out = &state};
        http1_save(&before.http1, &pack);
        for (size_t at = 0; at < buf_len(&state) * ARRAY_LEN(flips); at++) {
            static struct outcome outcome;
            outcome = before;
            char *byte = buf_data(&state) + at / ARRAY_LEN(flips);
            *byte = (char)((unsigned char)*byte ^ flips[at % ARRAY_LEN(flips)]);
            struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
            struct span bytes = {outcome.pending, outcome.n};
            int r = http1_restore(&outcome.http1, &unpack, bytes);
            *byte = (char)((unsigned char)*byte ^ flips[at % ARRAY_LEN(flips)]);
            cr_assert(r == 0 || r == -EBADMSG);
            refused += r < 0;
            if (r == 0)
                feed(&outcome, "llo\r\n" LAST, 10);
        }
        for (size_t n = 0; n < buf_len(&state); n++) {
            struct unpack unpack = {.left = {buf_data(&state), n}};
            struct http1 http1;
            cr_assert_eq(http1_restore(&http1, &unpack, (struct span){before.pending, before.n}),
                -EBADMSG, "cut off after %zu", n);
        }
        buf_deinit(&state);
    }
    cr_assert_gt(refused, 100);
}

/* A body that is taken in parts: the same bytes, in parts of at most `room`, however they come. */
Test(http1, in_parts)
{
    static struct http1_head head;
    static const struct http1_config parts = {{256, 8}, 4, true};
    static const struct {
        const char *text; /* up to `|`; behind it is another request */
        const char *body; /* NULL: it is not to be taken in parts */
        unsigned status;  /* of what is wrong with it */
    } rows[] = {
        {POST(4) "hell|", NULL, 0},
        {POST(5) "hello|POST", "hello", 0},
        {POST(0) "|", NULL, 0},
        {CHUNKED "0\r\n\r\n|GET", "", 0},
        {CHUNKED "2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nT: t\r\n\r\n|GET", "hello", 0},
        {CHUNKED "5\r\nhello\r\nx|", "hello", 400},
        {CHUNKED "5\r\nhello\n|", "hello", 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step < 12; step++) {
            struct http1 http1 = {0};
            char text[512], body[64];
            size_t n = (size_t)snprintf(text, sizeof(text), "%s", rows[i].text), at, len = 0;
            size_t end = (size_t)(strchr(text, '|') - text);
            memmove(text + end, text + end + 1, n - end);
            n--;
            struct http1_result result = http1_feed(&http1, text, n, &parts, &head);
            if (rows[i].body == NULL) {
                cr_expect_eq(result.event, HTTP1_REQUEST, "row %zu", i);
                continue;
            }
            cr_assert_eq(result.event, HTTP1_LARGE, "row %zu", i);
            http1_begin_parts(&http1, &head);
            at = result.used;
            bool last = false;
            unsigned status = 0;
            while (!last && status == 0 && at < n) {
                struct span part;
                size_t used;
                status = http1_feed_part(&http1, text + at, MIN(n - at, step), 12 - step,
                    parts.head.head_bytes, &used, &part, &last);
                if (status != 0)
                    break;
                cr_assert(used > 0 && part.n <= 12 - step, "row %zu", i);
                memcpy(body + len, part.p, part.n);
                len += part.n;
                at += used;
            }
            cr_expect_eq(status, rows[i].status, "row %zu, step %zu", i, step);
            cr_expect(len == strlen(rows[i].body) && memcmp(body, rows[i].body, len) == 0,
                "row %zu, step %zu: %.*s", i, step, (int)len, body);
            if (status == 0) {
                static const struct http1 zero;
                cr_expect(last && at == end, "row %zu, step %zu: %zu", i, step, at);
                cr_expect_eq(memcmp(&http1, &zero, sizeof(zero)), 0);
            }
        }
    }
}
