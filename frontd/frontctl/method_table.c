#include "frontd/frontctl/method_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/frontctl/frontctl.h"
#include "frontd/frontctl/table.h"
#include "frontd/frontctl/text.h"
#include "proto/json_read.h"

enum { BUCKETS_MAX = 64 };

/* What is shown of a method; below 0: it is not known. */
struct row {
    struct span method;
    double rate; /* calls a second */
    double calls;
    double errors;
    double failed;
    double p50; /* s, as the next ones */
    double p99;
    double spent;
    double slowest;
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

/* The same method as it was at the first look; n == 0: it was not there. */
static struct span find_before(struct span before, struct span method)
{
    struct span other;
    struct span name = json_read_member(method, "method");
    for (size_t at = 0; json_read_next(before, &at, &other);) {
        if (same_text(json_read_member(other, "method"), name))
            return other;
    }
    return (struct span){0};
}

/* By how much a number has grown; that of a method which was not there began at 0. */
static double growth(struct span method, struct span before, const char *name)
{
    double grown = number_of(method, name, 0) - number_of(before, name, 0);
    return grown < 0 ? 0 : grown; /* the front was started anew between the looks */
}

static size_t read_numbers(struct span list, double *ret_numbers)
{
    struct span value;
    size_t n = 0;
    for (size_t at = 0; n < BUCKETS_MAX && json_read_next(list, &at, &value);) {
        if (!text_number(value, &ret_numbers[n++]))
            return 0;
    }
    return n;
}

/* The time in which that part of the calls was over that fell into these buckets; below 0: none
 * did. */
static double quantile(const double *buckets, const double *bounds_us, size_t nbounds, double part)
{
    double whole = 0, below = 0;
    for (size_t i = 0; i <= nbounds; i++)
        whole += buckets[i];
    if (whole == 0 || nbounds == 0)
        return -1;
    for (size_t i = 0; i < nbounds; i++) {
        double from = i == 0 ? 0 : bounds_us[i - 1];
        if (buckets[i] > 0 && below + buckets[i] >= part * whole)
            return (from + (bounds_us[i] - from) * (part * whole - below) / buckets[i]) / 1e6;
        below += buckets[i];
    }
    return bounds_us[nbounds - 1] / 1e6;
}

/* What has come since the first look. A supervisor of an earlier version does not tell buckets. */
static void fill_between(
    struct row *row, struct span method, struct span before, struct span bounds)
{
    double now[BUCKETS_MAX] = {0}, then[BUCKETS_MAX] = {0}, bounds_us[BUCKETS_MAX];
    size_t nbounds = read_numbers(bounds, bounds_us);
    size_t n = read_numbers(json_read_member(method, "buckets"), now);
    read_numbers(json_read_member(before, "buckets"), then);
    row->calls = growth(method, before, "calls");
    row->errors = growth(method, before, "errors");
    row->failed = growth(method, before, "failed");
    row->spent = growth(method, before, "spent");
    row->slowest = number_of(method, "slowest", -1);
    row->p50 = row->p99 = -1;
    if (n != nbounds + 1)
        return;
    for (size_t i = 0; i < n; i++)
        now[i] = now[i] > then[i] ? now[i] - then[i] : 0;
    row->p50 = quantile(now, bounds_us, nbounds, 0.5);
    row->p99 = quantile(now, bounds_us, nbounds, 0.99);
}

static void fill_since_start(struct row *row, struct span method)
{
    row->calls = number_of(method, "calls", -1);
    row->errors = number_of(method, "errors", -1);
    row->failed = number_of(method, "failed", -1);
    row->p50 = number_of(method, "p50", -1);
    row->p99 = number_of(method, "p99", -1);
    row->spent = number_of(method, "spent", -1);
    row->slowest = number_of(method, "slowest", -1);
}

static double key_of(const struct row *row, const char *by)
{
    const struct {
        const char *name;
        double value;
    } keys[] = {{"rate", row->rate}, {"calls", row->calls}, {"errors", row->errors},
        {"failed", row->failed}, {"p50", row->p50}, {"p99", row->p99}, {"slowest", row->slowest}};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (strcmp(keys[i].name, by) == 0)
            return keys[i].value;
    }
    return row->spent;
}

/* The highest first. */
static int compare(const void *a, const void *b)
{
    const struct row *one = a;
    const struct row *other = b;
    return one->key == other->key ? 0 : one->key > other->key ? -1 : 1;
}

static void add(struct table *table, double number, void (*write)(double, char *))
{
    char text[TEXT_SIZE] = "-";
    if (number >= 0)
        write(number, text);
    table_add(table, text);
}

static void add_row(struct table *table, const struct row *row)
{
    char rate[TEXT_SIZE];
    snprintf(rate, sizeof(rate), "%.1f", row->rate);
    table_add_text(table, json_read_member(row->method, "method"));
    table_add(table, rate);
    add(table, row->calls, text_count);
    add(table, row->errors, text_count);
    add(table, row->failed, text_count);
    add(table, row->p50, text_seconds);
    add(table, row->p99, text_seconds);
    add(table, row->spent, text_seconds);
    add(table, row->slowest, text_seconds);
}

int method_table_print(const struct method_looks *looks, const char *by, size_t most)
{
    static const struct table_column columns[] = {{"METHOD", false}, {"CALLS/S", true},
        {"CALLS", true}, {"ERRORS", true}, {"FAILED", true}, {"P50", true}, {"P99", true},
        {"SPENT", true}, {"SLOWEST", true}};
    struct table table = {.columns = columns, .ncolumns = ARRAY_LEN(columns)};
    struct span methods = json_read_member(looks->now, "methods");
    struct span earlier = json_read_member(looks->before, "methods");
    struct span bounds = json_read_member(looks->now, "bounds_us");
    size_t n = json_read_count(methods);
    struct row *rows = mem_zalloc((n + 1) * sizeof(*rows));
    if (rows == NULL) {
        frontctl_complain("no memory");
        return FRONTCTL_FAILED;
    }
    size_t i = 0;
    for (size_t at = 0; i < n && json_read_next(methods, &at, &rows[i].method); i++) {
        struct row *row = &rows[i];
        struct span before = find_before(earlier, row->method);
        if (looks->between)
            fill_between(row, row->method, before, bounds);
        else
            fill_since_start(row, row->method);
        row->rate = growth(row->method, before, "calls") / looks->seconds;
        row->key = key_of(row, by);
    }
    qsort(rows, n, sizeof(*rows), compare);
    for (i = 0; i < MIN(n, most); i++)
        add_row(&table, &rows[i]);
    mem_free(rows);
    return table_print(&table, stdout);
}
