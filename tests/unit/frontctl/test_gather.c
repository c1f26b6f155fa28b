#include "frontd/frontctl/gather.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/frontctl.h"
#include "proto/json_read.h"

/* Of the program itself. */
int frontctl_misused(const struct command *command, const char *format, ...)
{
    (void)command;
    (void)format;
    return FRONTCTL_USAGE;
}

void frontctl_complain(const char *format, ...)
{
    (void)format;
}

void frontctl_help(const struct command *command)
{
    (void)command;
}

Test(gather, times_and_sizes)
{
    static const struct {
        const char *text;
        uint64_t seconds; /* UINT64_MAX: it is none */
        uint64_t bytes;
    } rows[] = {
        {"0", 0, 0},
        {"90", 90, 90},
        {"90s", 90, UINT64_MAX},
        {"5m", 300, UINT64_MAX},
        {"2h", 7200, UINT64_MAX},
        {"3d", 259200, UINT64_MAX},
        {"64k", UINT64_MAX, 65536},
        {"1M", UINT64_MAX, 1048576},
        {"3G", UINT64_MAX, 3221225472},
        {"4G", UINT64_MAX, UINT64_MAX},
        {"4294967295", 4294967295, 4294967295},
        {"4294967296", UINT64_MAX, UINT64_MAX},
        {"49710d", 4294944000, UINT64_MAX},
        {"49711d", UINT64_MAX, UINT64_MAX},
        {"", UINT64_MAX, UINT64_MAX},
        {"-1", UINT64_MAX, UINT64_MAX},
        {" 1", UINT64_MAX, UINT64_MAX},
        {"1 s", UINT64_MAX, UINT64_MAX},
        {"s", UINT64_MAX, UINT64_MAX},
        {"1sm", UINT64_MAX, UINT64_MAX},
        {"99999999999999999999", UINT64_MAX, UINT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t value = UINT64_MAX;
        cr_expect_eq(
            gather_time(rows[i].text, &value), rows[i].seconds != UINT64_MAX, "%s", rows[i].text);
        cr_expect_eq(value, rows[i].seconds, "%s", rows[i].text);
        value = UINT64_MAX;
        cr_expect_eq(
            gather_size(rows[i].text, &value), rows[i].bytes != UINT64_MAX, "%s", rows[i].text);
        cr_expect_eq(value, rows[i].bytes, "%s", rows[i].text);
    }
}

Test(gather, pages)
{
    static const struct command command = {.name = "x", .arguments = "", .help = ""};
    static const struct {
        const char *limit, *offset;
        int result;
    } rows[] = {
        {NULL, NULL, -1},
        {"1", "0", -1},
        {"1000", NULL, -1},
        {"1001", NULL, FRONTCTL_USAGE},
        {"0", NULL, FRONTCTL_USAGE},
        {"999", "1", -1},
        {"999", "2", FRONTCTL_USAGE},
        {"x", NULL, FRONTCTL_USAGE},
        {NULL, "-1", FRONTCTL_USAGE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gather_page page;
        cr_expect_eq(gather_read_page(&command, rows[i].limit, rows[i].offset, &page),
            rows[i].result, "row %zu", i);
    }
}

static int read_text(struct gather *gather, const char *text)
{
    *gather = (struct gather){0};
    return gather_read(gather, (struct span){text, strlen(text)});
}

/* What shards say is put together; whatever it is, it is not believed to have any form. */
Test(gather, answers)
{
    struct gather gather;
    cr_expect_eq(
        read_text(&gather,
            "{\"shards\":[{\"answer\":{\"looked\":2,\"matched\":1,\"complete\":true,\"rows\":[1]}},"
            "{\"answer\":{\"looked\":3,\"matched\":2,\"complete\":true,\"rows\":[{},[]]}}],"
            "\"silent\":[{\"shard\":1}]}"),
        0);
    cr_expect_eq(gather.nrows, 3);
    cr_expect_eq(gather.shards, 2);
    cr_expect_eq(gather.looked, 5);
    cr_expect_eq(gather.matched, 3);
    cr_expect(gather.complete);
    cr_expect_eq(json_read_count(gather.silent), 1);
    gather_free(&gather);
    cr_expect_eq(read_text(&gather, "{\"shards\":[],\"silent\":[]}"), FRONTCTL_FAILED);
    gather_free(&gather);
    cr_expect_eq(
        read_text(&gather, "{\"shards\":[{\"answer\":{\"error\":\"no\"}}]}"), FRONTCTL_FAILED);
    gather_free(&gather);
    cr_expect_eq(
        read_text(&gather, "{\"shards\":[{\"answer\":{\"error\":\"no\",\"wrong\":true}}]}"),
        FRONTCTL_USAGE);
    gather_free(&gather);
    static const char *const odd[] = {"{}", "[]", "{\"shards\":1}",
        "{\"shards\":[{\"answer\":[]}]}",
        "{\"shards\":[{\"answer\":{\"rows\":7,\"looked\":\"x\"}},{}],\"silent\":{}}"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        read_text(&gather, odd[i]);
        cr_expect_eq(gather.nrows, 0);
        gather_free(&gather);
    }
    cr_assert_eq(mem_in_use(), (size_t)0);
}
