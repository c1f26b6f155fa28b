#include <criterion/criterion.h>
#include <string.h>

#include "frontd/admin/metrics_line.h"

static const char *label_of(const char *value, size_t n)
{
    static char text[512];
    struct metrics_line line = {.text = text, .size = sizeof(text)};
    text[0] = '\0';
    metrics_line_label(&line, "a", (struct span){value, n});
    cr_assert_eq(strlen(text), line.n);
    return text;
}

Test(metrics_line, labels)
{
    static const struct {
        struct span value;
        const char *text;
    } cases[] = {
        {{"", 0}, "a=\"\""},
        {{"plain", 5}, "a=\"plain\""},
        {{"\"\\\n", 3}, "a=\"\\\"\\\\\\n\""},
        {{"\0\x1f\x7f", 3}, "a=\"\\\\x00\\\\x1f\\\\x7f\""},
        {{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9}, "a=\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {{"\xc3", 1}, "a=\"\\\\xc3\""},
        {{"\xffz\xed\xa0\x80", 5}, "a=\"\\\\xffz\\\\xed\\\\xa0\\\\x80\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_expect_str_eq(label_of(cases[i].value.p, cases[i].value.n), cases[i].text);
}

/* One for which there is no room, whatever it were escaped, is left out; the others are whole. */
Test(metrics_line, room)
{
    char text[40];
    struct metrics_line line = metrics_line_from(text, sizeof(text), "b=\"1\"");
    metrics_line_label(&line, "a", SPAN("12345"));
    cr_expect_str_eq(text, "b=\"1\",a=\"12345\"");
    metrics_line_label(&line, "a", SPAN("12345"));
    cr_expect_str_eq(text, "b=\"1\",a=\"12345\"");
    line = metrics_line_from(text, 3, "b=\"1\"");
    cr_expect_str_eq(text, "");
}

static struct buf out;

static void expect_text(const char *text)
{
    cr_assert_eq(buf_append(&out, "", 1), 0);
    cr_expect_str_eq(buf_data(&out), text);
    buf_deinit(&out);
}

Test(metrics_line, samples)
{
    struct metrics_out to = {.out = &out};
    cr_assert(metrics_family(&to, METRICS_COUNTER, "x_total", "Help."));
    metrics_sample(&to, "x_total", "", "", NULL, NULL, 0);
    metrics_sample(&to, "x_total", "", "a=\"1\"", NULL, NULL, UINT64_MAX);
    metrics_sample(&to, "x", "_bucket", "a=\"1\"", "le", "+Inf", 10);
    metrics_sample(&to, "x", "_bucket", "", "le", "1.0", 9);
    metrics_sample_us(&to, "x", "_sum", "a=\"1\"", 1000001);
    metrics_sample_us(&to, "x", "_sum", "", 20);
    expect_text("# HELP x_total Help.\n# TYPE x_total counter\nx_total 0\n"
                "x_total{a=\"1\"} 18446744073709551615\nx_bucket{a=\"1\",le=\"+Inf\"} 10\n"
                "x_bucket{le=\"1.0\"} 9\nx_sum{a=\"1\"} 1.000001\nx_sum 0.000020\n");
}

Test(metrics_line, openmetrics)
{
    struct metrics_out to = {.out = &out, .openmetrics = true};
    cr_assert(metrics_family(&to, METRICS_COUNTER, "x_total", "Help."));
    cr_assert(metrics_family(&to, METRICS_INFO, "y_info", "Help."));
    cr_assert(metrics_family(&to, METRICS_GAUGE, "z", "Help."));
    metrics_end(&to);
    expect_text("# HELP x Help.\n# TYPE x counter\n# HELP y Help.\n# TYPE y info\n"
                "# HELP z Help.\n# TYPE z gauge\n# EOF\n");
}

Test(metrics_line, prefix)
{
    struct metrics_out to = {.out = &out, .prefix = SPAN("x_t")};
    cr_expect(metrics_wanted(&to, "x_total") && metrics_wanted(&to, "x_t"));
    cr_expect(!metrics_wanted(&to, "x_") && !metrics_wanted(&to, "y_total"));
    cr_expect_not(metrics_family(&to, METRICS_COUNTER, "y_total", "Help."));
    expect_text("");
}
