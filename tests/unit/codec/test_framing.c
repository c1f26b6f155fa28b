#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/framing.h"

struct row {
    const char *input;
    size_t n;
    uint32_t limit;
    const char *events; /* what feed_parts() makes of it */
};

#define IN(literal) literal, sizeof(literal) - 1

enum framing { FRAME, LINE };

static struct line_result feed(
    enum framing framing, const char *p, size_t n, uint32_t limit, size_t *scanned)
{
    if (framing == FRAME)
        return line_feed_frame(p, n, limit);
    return line_feed_line(p, n, limit, scanned);
}

/*
 * Feeds the first part, then the rest in steps. What is kept and what is added are one copy on the
 * heap that ends where the input so far ends: ASan sees the rest.
 */
static void feed_parts(
    enum framing framing, const struct row *row, size_t first, size_t step, char *out, size_t size)
{
    FILE *file = fmemopen(out, size, "w");
    cr_assert_not_null(file);
    size_t from = 0, to = first, scanned = 0;
    for (;;) {
        const size_t n = to - from;
        char *copy = malloc(n + (n == 0));
        cr_assert_not_null(copy);
        memcpy(copy, row->input + from, n);
        const struct line_result result = feed(framing, copy, n, row->limit, &scanned);
        cr_assert_leq(result.used, n);
        if (result.event == LINE_MESSAGE || result.event == LINE_HEARTBEAT) {
            cr_assert(result.used > 0 && scanned == 0);
            cr_assert(result.payload.p >= copy &&
                      result.payload.p + result.payload.n <= copy + result.used);
            cr_assert_eq(result.payload.n == 0, result.event == LINE_HEARTBEAT);
            if (result.event == LINE_MESSAGE)
                fprintf(file, "[%.*s]", (int)result.payload.n, result.payload.p);
            else
                fprintf(file, "[] ");
            from += result.used;
        }
        free(copy);
        if (result.event == LINE_TOO_BIG) {
            fprintf(file, "too big");
            break;
        }
        if (result.event == LINE_MORE) {
            cr_assert_leq(scanned, n);
            if (to == row->n) {
                fprintf(file, "%zu left", n);
                break;
            }
            to = MIN(to + step, row->n);
        }
    }
    fclose(file);
}

static void check(enum framing framing, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        char out[512];
        for (size_t split = 0; split <= row->n; split++) {
            feed_parts(framing, row, split, row->n + 1, out, sizeof(out));
            cr_assert_str_eq(
                out, row->events, "row %zu cut at %zu: %s, not %s", i, split, out, row->events);
        }
        feed_parts(framing, row, 0, 1, out, sizeof(out));
        cr_assert_str_eq(out, row->events, "row %zu bytewise: %s, not %s", i, out, row->events);
    }
}

Test(line, frames)
{
    static const struct row rows[] = {
        {IN(""), 9, "0 left"},
        {IN("\0\0\0"), 9, "3 left"},
        {IN("\0\0\0\5hello"), 9, "[hello]0 left"},
        {IN("\0\0\0\5hell"), 9, "8 left"},
        {IN("\0\0\0\1a\0\0\0\2bc\0\0\0\3de"), 9, "[a][bc]6 left"},
        {IN("\0\0\0\3\r\n\n\0\0\0\1x"), 9, "[\r\n\n][x]0 left"},
        {IN("\0\0\0\0"), 9, "[] 0 left"},
        {IN("\0\0\0\0\0\0\0\0\0\0\0\1x\0\0\0\0"), 9, "[] [] [x][] 0 left"},
        {IN("\0\0\0\0"), 0, "[] 0 left"},

        /* at the limit, and past it: as soon as the length is there */
        {IN("\0\0\0\4abcd"), 5, "[abcd]0 left"},
        {IN("\0\0\0\5abcde"), 5, "[abcde]0 left"},
        {IN("\0\0\0\6"), 5, "too big"},
        {IN("\0\0\0\1"), 0, "too big"},
        {IN("\0\0\0\1a\0\0\0\6"), 5, "[a]too big"},
        {IN("\0\0\1\0"), 0xff, "too big"},
        {IN("\0\0\1\0"), 0x100, "4 left"},
        {IN("\0\1\0\0"), 0xffff, "too big"},
        {IN("\x01\0\0\0"), 0xffffff, "too big"},
        {IN("\xff\xff\xff\xff"), UINT32_MAX - 1, "too big"},
        {IN("\xff\xff\xff\xffx"), UINT32_MAX, "5 left"},
        {IN("GET / HTTP/1.1\r\n"), 1 << 20, "too big"},
    };
    check(FRAME, rows, ARRAY_LEN(rows));
}

Test(line, lines)
{
    static const struct row rows[] = {
        {IN(""), 9, "0 left"},
        {IN("hello"), 9, "5 left"},
        {IN("hello\n"), 9, "[hello]0 left"},
        {IN("hello\r\n"), 9, "[hello]0 left"},
        {IN("hello\r"), 9, "6 left"},
        {IN("a\nbc\r\nde"), 9, "[a][bc]2 left"},
        {IN("\n"), 9, "[] 0 left"},
        {IN("\r\n"), 9, "[] 0 left"},
        {IN("\n\r\n\na\n\n"), 9, "[] [] [] [a][] 0 left"},
        {IN("\r\n\n"), 0, "[] [] 0 left"},
        {IN("\r"), 9, "1 left"},

        /* a CR elsewhere is part of the text */
        {IN("a\rb\n"), 9, "[a\rb]0 left"},
        {IN("a\r\r\n"), 9, "[a\r]0 left"},
        {IN("\ra\n"), 9, "[\ra]0 left"},
        {IN(" \n"), 9, "[ ]0 left"},

        {IN("abcd\r\n"), 5, "[abcd]0 left"},
        {IN("abcde\n"), 5, "[abcde]0 left"},
        {IN("abcde\r\n"), 5, "[abcde]0 left"},
        {IN("abcde\r"), 5, "6 left"},
        {IN("abcdef"), 5, "6 left"},
        {IN("abcdef\n"), 5, "too big"},
        {IN("abcdef\r\n"), 5, "too big"},
        {IN("abcde\r\r\n"), 5, "too big"},
        {IN("abcdefg"), 5, "too big"},
        {IN("abcdefghijkl"), 5, "too big"},
        {IN("a\nabcdefg"), 5, "[a]too big"},
        {IN("x"), 0, "1 left"},
        {IN("xx"), 0, "too big"},
        {IN("x\n"), 0, "too big"},
        {IN("hello\nx"), UINT32_MAX, "[hello]1 left"},
    };
    check(LINE, rows, ARRAY_LEN(rows));
}

/* What has been scanned is not scanned again: a long line in many parts stays linear. */
Test(line, scanned_once)
{
    char text[] = "abc";
    size_t scanned = 0;
    cr_assert_eq(line_feed_line(text, 3, 100, &scanned).event, LINE_MORE);
    cr_assert_eq(scanned, 3);
    text[1] = '\n';
    cr_assert_eq(line_feed_line(text, 3, 100, &scanned).event, LINE_MORE);
    cr_assert_eq(scanned, 3);
}

/* What is left when nothing is taken up before the end, and how many heartbeats were seen. */
static void check_ahead(const char *in, size_t size, uint32_t limit, size_t step, size_t beats,
    const char *left, size_t n_left)
{
    char *bytes = malloc(size + 1);
    size_t n = 0, looked = 0, seen = 0;
    cr_assert_not_null(bytes);
    for (size_t fed = 0; fed < size;) {
        const size_t part = MIN(step, size - fed);
        size_t hole = 0, kept = 0;
        memcpy(bytes + n, in + fed, part);
        n += part;
        fed += part;
        bool more;
        while ((more = line_ahead_frame(bytes, n, limit, &looked, &hole, &kept))) {
            seen++;
            if (seen % 2 == 0)
                break; /* the turn is over */
        }
        n = more ? line_ahead_end(bytes, n, looked, &hole) : kept;
        cr_assert_eq(hole, 0);
    }
    for (size_t hole = 0, kept; line_ahead_frame(bytes, n, limit, &looked, &hole, &kept); seen++)
        n = line_ahead_end(bytes, n, looked, &hole);
    cr_assert_eq(seen, beats, "by %zu: %zu", step, seen);
    cr_assert(n == n_left && memcmp(bytes, left, n) == 0, "by %zu: %zu left", step, n);
    free(bytes);
}

Test(line, ahead)
{
    static const struct {
        const char *in;
        size_t n;
        size_t beats;
        const char *left;
        size_t n_left;
    } rows[] = {
        {IN("\0\0\0\0"), 1, IN("")},
        {IN("\0\0\0\1a"), 0, IN("\0\0\0\1a")},
        {IN("\0\0\0\1a\0\0\0\0\0\0\0\2bc"), 1, IN("\0\0\0\1a\0\0\0\2bc")},
        {IN("\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1x\0\0"), 3,
            IN("\0\0\0\4\0\0\0\0\0\0\0\1x\0\0")},
        {IN("\0\0\0\0\0\0\0\5ab"), 1, IN("\0\0\0\5ab")},
        /* over the limit: in its turn */
        {IN("\0\0\0\0\0\0\0\6\0\0\0\0"), 1, IN("\0\0\0\6\0\0\0\0")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t step = 1; step <= rows[i].n; step++)
            check_ahead(
                rows[i].in, rows[i].n, 5, step, rows[i].beats, rows[i].left, rows[i].n_left);
    }
}

Test(line, foreign)
{
    static const struct {
        const char *line;
        bool is;
    } rows[] = {
        {"POST / HTTP/1.1", true},
        {"GET /a?b=c HTTP/1.0", true},
        {"OPTIONS * HTTP/1.1", true},
        {"x HTTP/1.1", true},
        {"\"POST / HTTP/1.1", true},
        {" HTTP/1.1", false},
        {"HTTP/1.1", false},
        {"", false},
        {"\x16\x03\x01\x02", true},
        {"\x16\x03", true},
        {"\x16", false},
        {"\x16\x02\x01", false},
        {"{\x16\x03", false},
        {"POST / HTTP/1.1 ", false},
        {"POST / HTTP/1.", false},
        {"POST / HTTP/2.0", false},
        {"POST / http/1.1", false},
        {"\"POST / HTTP/1.1\"", false},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[\"GET / HTTP/1.1\"]}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        /* On the heap, so that ASan sees a look at what is beside it. */
        const size_t n = strlen(rows[i].line);
        char *copy = malloc(n + (n == 0));
        cr_assert_not_null(copy);
        memcpy(copy, rows[i].line, n);
        cr_expect_eq(line_is_foreign((struct span){copy, n}), rows[i].is, "%s", rows[i].line);
        free(copy);
    }
}
