#include "frontd/frontctl/method_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/frontctl.h"
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

int method_table_print(
    struct span methods, struct span before, double seconds, const char *by, size_t most)
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
    for (i = 0; i < MIN(n, most); i++)
        add_row(&table, &rows[i]);
    mem_free(rows);
    return table_print(&table, stdout);
}
