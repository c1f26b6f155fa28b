/*
 * What the metrics say of methods, by the rows that they have of their own, and how long calls of a
 * pool take.
 */

#include <string.h>

#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_names.h"
#include "frontd/supervisor/methods/methods.h"

static const struct metric *find(const char *member)
{
    size_t n;
    const struct metric *table = metric_table(METRIC_KIND_method, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i].member, member) == 0)
            return &table[i];
    }
    return NULL;
}

/* A time of a histogram's part, in us; left out where there is none. */
static void put_quantile(
    struct json_writer *out, const char *key, const uint64_t *histogram, double part)
{
    uint64_t us = metric_quantile(histogram, part);
    if (us != UINT64_MAX)
        methods_put_us(out, key, us);
}

/* How many calls took up to each of the bounds, and longer than the last one: for what has come
 * between two looks. */
static void put_buckets(struct json_writer *out, const uint64_t *histogram)
{
    json_begin(out, "buckets", '[');
    for (unsigned i = 0; i <= METRIC_BOUNDS; i++)
        json_add_number(out, NULL, histogram[1 + i]);
    json_end(out, ']');
}

static void put_method(
    struct json_writer *out, const struct share *share, unsigned row, const char *name, size_t n)
{
    const struct metric *ended = find("ended");
    const struct metric *whole = find("whole");
    const struct metric *slowest = find("slowest");
    struct metric_sums sums;
    if (!metric_sum(share, METRIC_KIND_method, row, &sums))
        return;
    const uint64_t *outcomes = &sums.words[ended->at];
    const uint64_t *histogram = &sums.words[whole->at];
    json_begin(out, NULL, '{');
    json_add_span(out, "method", (struct span){name, n});
    json_add_number(out, "calls", metric_total(&sums, ended));
    json_add_number(out, "errors", outcomes[METRIC_OUTCOME_APP]);
    json_add_number(out, "failed", outcomes[METRIC_OUTCOME_FRONT]);
    put_quantile(out, "p50", histogram, 0.5);
    put_quantile(out, "p99", histogram, 0.99);
    put_buckets(out, histogram);
    methods_put_us(out, "spent", histogram[METRIC_SUM]);
    methods_put_us(out, "slowest", sums.words[slowest->at]);
    json_end(out, '}');
}

void methods_put_pool_times(struct json_writer *out, const struct share *share, const char *pool)
{
    size_t n;
    const struct metric *table = metric_table(METRIC_KIND_pair, &n);
    uint64_t histogram[METRIC_BOUNDS + 2] = {0};
    struct metric_sums sums;
    struct share_name name;
    size_t whole = 0;
    while (whole < n && strcmp(table[whole].member, "whole") != 0)
        whole++;
    for (unsigned row = 1; whole < n && row < metric_rows(METRIC_KIND_pair); row++) {
        if (!share_name_of(share, METRIC_KIND_pair, row, &name) || name.n != strlen(pool) ||
            memcmp(name.text, pool, name.n) != 0 ||
            !metric_sum(share, METRIC_KIND_pair, row, &sums))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(histogram); i++)
            histogram[i] += sums.words[table[whole].at + i];
    }
    put_quantile(out, "p50", histogram, 0.5);
    put_quantile(out, "p99", histogram, 0.99);
}

void method_methods(struct control_call *call, struct span params)
{
    (void)params;
    const struct share *share = front_serving(&methods_supervisor(call)->front)->share;
    struct share_name name;
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_begin(&out, "bounds_us", '[');
    for (unsigned i = 0; i < METRIC_BOUNDS; i++)
        json_add_number(&out, NULL, metric_bounds[i]);
    json_end(&out, ']');
    json_begin(&out, "methods", '[');
    for (unsigned row = 0; share != NULL && row < metric_rows(METRIC_KIND_method); row++) {
        if (row == 0)
            put_method(&out, share, 0, "other", 5);
        else if (share_name_of(share, METRIC_KIND_method, row, &name))
            put_method(&out, share, row, name.text, name.n);
    }
    json_end(&out, ']');
    json_end(&out, '}');
    control_call_answer(call, &out);
}
