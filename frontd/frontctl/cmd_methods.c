#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "frontd/frontctl/ask.h"
#include "frontd/frontctl/command_line.h"
#include "frontd/frontctl/commands.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

struct row {
    struct span method;
    double rate;  /* calls a second; below 0: not measured */
    double calls; /* in the interval, or since the start */
    double key;
};

static double number_of(struct span object, const char *name, double fallback)
{
    double number = fallback;
    text_number(json_read_member(object, name), &number);
    return number;
}

static bool same_text(struct span a, struct span b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

/* How many calls of a method had ended at the first look. */
static double calls_before(struct span before, struct span method)
{
    struct span other;
    struct span name = json_read_member(method, "method");
    for (size_t at = 0; json_read_next(before, &at, &other);) {
        if (same_text(json_read_member(other, "method"), name))
            return number_of(other, "calls", 0);
    }
    return 0;
}

/* The highest first. */
static int compare(const void *a, const void *b)
{
    const struct row *one = a;
    const struct row *other = b;
    return one->key == other->key ? 0 : one->key > other->key ? -1 : 1;
}

static void add_row(struct table *table, const struct row *row)
{
    char rate[TEXT_SIZE] = "-";
    if (row->rate >= 0)
        snprintf(rate, sizeof(rate), "%.1f", row->rate);
    table_add_text(table, json_read_member(row->method, "method"));
    table_add(table, rate);
    table_add_count(table, json_read_member(row->method, "calls"));
    table_add_count(table, json_read_member(row->method, "errors"));
    table_add_count(table, json_read_member(row->method, "failed"));
    table_add_seconds(table, json_read_member(row->method, "p50"));
    table_add_seconds(table, json_read_member(row->method, "p99"));
    table_add_seconds(table, json_read_member(row->method, "spent"));
    table_add_seconds(table, json_read_member(row->method, "slowest"));
}

static int print(struct span methods, struct span before, double seconds, const char *by)
{
    static const struct table_column columns[] = {{"METHOD", false}, {"CALLS/S", true},
        {"CALLS", true}, {"ERRORS", true}, {"FAILED", true}, {"P50", true}, {"P99", true},
        {"SPENT", true}, {"SLOWEST", true}};
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    size_t n = json_read_count(methods);
    struct row *rows = mem_zalloc((n + 1) * sizeof(*rows));
    if (rows == NULL) {
        frontctl_complain("no memory");
        return FRONTCTL_FAILED;
    }
    size_t i = 0;
    for (size_t at = 0; i < n && json_read_next(methods, &at, &rows[i].method); i++) {
        double ended = number_of(rows[i].method, "calls", 0) - calls_before(before, rows[i].method);
        rows[i].rate = ended < 0 ? 0 : ended / seconds;
        rows[i].key = strcmp(by, "rate") == 0 ? rows[i].rate : number_of(rows[i].method, by, -1);
    }
    qsort(rows, n, sizeof(*rows), compare);
    for (i = 0; i < n; i++)
        add_row(&table, &rows[i]);
    mem_free(rows);
    return table_print(&table, stdout);
}

/* Looks twice, `seconds` apart. */
static int look_twice(const struct frontctl *frontctl, long seconds, const char *by)
{
    const struct timespec between = {.tv_sec = seconds};
    struct span now;
    int r = ask(frontctl, "methods", NULL, &now);
    if (r != 0)
        return r;
    char *copy = mem_strndup(now.p, now.n);
    const struct span before = {copy, copy == NULL ? 0 : now.n};
    nanosleep(&between, NULL);
    r = ask(frontctl, "methods", NULL, &now);
    if (r == 0)
        r = print(json_read_member(now, "methods"), json_read_member(before, "methods"),
            (double)seconds, by);
    mem_free(copy);
    return r;
}

static bool is_sort(const char *text)
{
    static const char *const sorts[] = {
        "spent", "calls", "errors", "failed", "p50", "p99", "slowest", "rate"};
    for (size_t i = 0; i < ARRAY_LEN(sorts); i++) {
        if (strcmp(sorts[i], text) == 0)
            return true;
    }
    return false;
}

static int run(struct frontctl *frontctl, int argc, char **argv)
{
    const char *by = "spent";
    const char *interval = "1";
    const struct command_option options[] = {
        {.name = "sort", .value = &by}, {.name = "interval", .value = &interval}};
    struct span result;
    long seconds;
    int count = 0;
    int r = command_line_read(
        frontctl, &cmd_methods, argc, argv, options, ARRAY_LEN(options), &count);
    if (r >= 0)
        return r;
    if (count > 0 || !is_sort(by) || !command_line_number(interval, 1, 3600, &seconds))
        return frontctl_misused(&cmd_methods,
            "--sort: spent, calls, errors, failed, p50, p99, slowest or rate; --interval: seconds; "
            "there are no arguments");
    if (!frontctl->json)
        return look_twice(frontctl, seconds, by);
    r = ask(frontctl, "methods", NULL, &result);
    return r != 0 ? r : ask_print_json(result);
}

const struct command cmd_methods = {
    .name = "methods",
    .arguments = "[--sort spent|calls|errors|failed|p50|p99|slowest|rate] [--interval SECONDS]",
    .summary = "each method: calls a second, errors, how long they take",
    .help = "CALLS/S   that have ended, counted for a second, or for --interval\n"
            "CALLS …   all that follows is since the front was started\n"
            "ERRORS    of workers; FAILED: those that the front has answered with an error\n"
            "P50, P99  how long calls take, from their arrival to their end\n"
            "SPENT     all of that together: what the time goes into\n"
            "Methods beyond the first 100, or those that the config names, are in `other`.\n",
    .run = run,
};
