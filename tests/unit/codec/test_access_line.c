#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/access_line.h"

static struct access_part parts[ACCESS_PARTS_MAX];
static char out[ACCESS_LINE_MAX];

static const char *write_line(const char *format, const struct span *values)
{
    static char text[ACCESS_LINE_MAX + 1];
    size_t nparts = 0;
    if (format != NULL) {
        const char *wrong = access_format_read(format, parts, &nparts);
        cr_assert_null(wrong, "%s: %s", format, wrong);
    }
    size_t n = access_line_write(parts, nparts, values, out);
    cr_assert_leq(n, sizeof(out));
    memcpy(text, out, n);
    text[n] = '\0';
    return text;
}

Test(access_line, formats)
{
    struct span values[ACCESS_FIELDS_COUNT] = {
        [ACCESS_method] = SPAN("GET"),
        [ACCESS_path] = SPAN("/a \"b\"\\\n\x7f\xff"),
        [ACCESS_status] = SPAN("200"),
    };
    static const struct {
        const char *format;
        const char *line;
    } rows[] = {
        {"${method}", "GET\n"},
        {"a${method}b", "aGETb\n"},
        {"${method}${method} ${status}", "GETGET 200\n"},
        {"[${peer}]", "[-]\n"},
        {"$$${status}$$", "$200$\n"},
        {"$$$$", "$$\n"},
        {"only text", "only text\n"},
        {"", "\n"},
        {"${path}", "/a \\\"b\\\"\\\\\\x0a\\x7f\\xff\n"},
        {NULL, "{\"method\":\"GET\",\"status\":200,\"path\":"
               "\"/a \\\"b\\\"\\\\\\u000a\\u007f\\u00ff\"}\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        cr_expect_str_eq(write_line(rows[i].format, values), rows[i].line);
}

Test(access_line, nothing_is_an_object_too)
{
    struct span values[ACCESS_FIELDS_COUNT] = {{0}};
    cr_expect_str_eq(write_line(NULL, values), "{}\n");
}

Test(access_line, wrong_formats)
{
    static const char *const rows[] = {"$", "a$", "$a", "${", "${method", "${}", "${Method}",
        "${nothing}", "${method} $ {peer}", "a\nb", "a\tb", "\x7f", "\xc3\xa4"};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t n = 7;
        cr_expect_not_null(access_format_read(rows[i], parts, &n), "%s", rows[i]);
        cr_expect_eq(n, 7);
    }
}

/* A format of so many parts, and as many bytes as are given. */
static const char *read_long(size_t fields, size_t bytes, size_t *ret_n)
{
    static char text[ACCESS_FORMAT_MAX + 2];
    size_t n = 0;
    for (size_t i = 0; i < fields; i++)
        n += (size_t)sprintf(text + n, "${conn}");
    while (n < bytes)
        text[n++] = 'x';
    text[n] = '\0';
    return access_format_read(text, parts, ret_n);
}

Test(access_line, limits_of_formats)
{
    size_t n = 0;
    cr_expect_null(read_long(0, ACCESS_FORMAT_MAX, &n));
    cr_expect_not_null(read_long(0, ACCESS_FORMAT_MAX + 1, &n));
    cr_expect_null(read_long(ACCESS_PARTS_MAX - 1, 0, &n));
    cr_expect_eq(n, ACCESS_PARTS_MAX - 1);
    cr_expect_null(read_long(ACCESS_PARTS_MAX - 1, 1000, &n), "text after the last of them");
    cr_expect_eq(n, ACCESS_PARTS_MAX);
    cr_expect_not_null(read_long(ACCESS_PARTS_MAX, 0, &n));
}

/* Whatever the lengths are, a line is whole: it is an object, and ends in a newline. */
static void check_cut(const char *bytes, size_t first, size_t n)
{
    struct span values[ACCESS_FIELDS_COUNT] = {{0}};
    for (size_t i = first; i < ACCESS_FIELDS_COUNT; i++)
        values[i] = (struct span){bytes, n};
    const char *line = write_line(NULL, values);
    cr_expect_str_eq(line + strlen(line) - 2, "}\n", "%zu values of %zu", first, n);
    cr_expect_not_null(strstr(line, "\"user_agent\":\""), "%zu values of %zu", first, n);
}

Test(access_line, long_values_are_cut)
{
    static char bytes[2 * ACCESS_LINE_MAX];
    for (const char *c = "x\n\""; *c != '\0'; c++) {
        memset(bytes, *c, sizeof(bytes));
        for (size_t first = 0; first < ACCESS_FIELDS_COUNT; first++) {
            for (size_t n = 1; n < sizeof(bytes); n += 97)
                check_cut(bytes, first, n);
        }
    }
}

Test(access_line, text_stays_where_values_are_cut)
{
    static char bytes[2 * ACCESS_LINE_MAX];
    struct span values[ACCESS_FIELDS_COUNT] = {[ACCESS_path] = {bytes, sizeof(bytes)}};
    memset(bytes, 'x', sizeof(bytes));
    const char *line = write_line("${path}${path} ${peer}end", values);
    cr_expect_str_eq(line + strlen(line) - 6, " -end\n");
    cr_expect_geq(strlen(line), ACCESS_LINE_MAX - 16);
}
