#include <criterion/criterion.h>
#include <string.h>

#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_reclaim.h"
#include "tests/unit/support/shm.h"

TestSuite(metrics, .init = make_memory_of_test, .fini = unmap_memory_of_test);

static const unsigned seats[] = {0, 5, SHARE_SEAT_LAST, SHARE_SEAT_SUPERVISOR};

/* Each word has a number of its own, in which each seat has a decimal place. */
Test(metrics, sums_are_over_all_seats)
{
    for (unsigned kind = 0; kind < METRIC_KINDS; kind++) {
        unsigned row = metric_rows((enum metric_kind)kind) - 1;
        size_t n = metric_words((enum metric_kind)kind);
        struct metric_sums sums;
        cr_expect_not(metric_sum(share, (enum metric_kind)kind, row, &sums));
        cr_expect_eq(sums.words[n - 1], 0u);
        for (uint64_t i = 0, place = 1; i < ARRAY_LEN(seats); i++, place *= 10000) {
            _Atomic uint64_t *words = metric_row(share, seats[i], (enum metric_kind)kind, row);
            for (size_t w = 0; w < n; w++)
                share_count(&words[w], (w + 1) * place);
        }
        cr_assert(metric_sum(share, (enum metric_kind)kind, row, &sums));
        for (size_t w = 0; w < n; w++)
            cr_assert_eq(sums.words[w], (w + 1) * 1000100010001);
        cr_assert(metric_sum_seat(share, 5, (enum metric_kind)kind, row, &sums));
        cr_expect_eq(sums.words[n - 1], n * 10000);
        cr_expect_not(metric_sum_seat(share, 6, (enum metric_kind)kind, row, &sums));
        cr_expect_eq(metric_rows_used(share, (enum metric_kind)kind),
            kind == METRIC_KIND_shard ? ARRAY_LEN(seats) : 1u);
    }
}

/* The words of a table are a row, each once, and every name is one of the project's. */
Test(metrics, tables)
{
    for (unsigned kind = 0; kind < METRIC_KINDS; kind++) {
        size_t n;
        const struct metric *all = metric_table((enum metric_kind)kind, &n);
        unsigned at = 0;
        for (size_t i = 0; i < n; i++) {
            const struct metric *metric = &all[i];
            cr_assert_geq(metric->at, at, "%s", metric->member);
            cr_assert_eq(
                metric->n, metric_dim_size(metric->dims[0]) * metric_dim_size(metric->dims[1]));
            at = (unsigned)metric->at + metric->n;
            bool counts = metric->type == METRIC_COUNTER || metric->type == METRIC_TIME;
            size_t len = strlen(metric->name);
            bool total = len > 6 && strcmp(metric->name + len - 6, "_total") == 0;
            cr_expect_eq(total, counts, "%s", metric->name);
            cr_expect_eq(len == 0, metric->type == METRIC_HIDDEN, "%s", metric->member);
            for (unsigned d = 0; d < 2 && metric->type != METRIC_HIDDEN; d++) {
                for (unsigned k = 0; k < metric_dim_size(metric->dims[d]); k++)
                    cr_expect(metric->dims[d] == METRIC_DIM_BUCKET ||
                              metric_dim_label(metric->dims[d], k) != NULL);
            }
        }
        cr_assert_eq(at, metric_words((enum metric_kind)kind));
    }
}

Test(metrics, buckets)
{
    _Atomic uint64_t words[METRIC_SIZE_BUCKET] = {0};
    for (unsigned i = 0; i < METRIC_BOUNDS; i++) {
        cr_assert_eq(metric_bucket(metric_bounds[i]), i);
        cr_assert_eq(metric_bucket(metric_bounds[i] + 1), i + 1);
        cr_assert(i == 0 || metric_bounds[i] > metric_bounds[i - 1]);
    }
    cr_assert_eq(metric_bucket(0), 0u);
    cr_assert_eq(metric_bucket(UINT64_MAX), METRIC_BOUNDS);
    metric_observe(words, 700);
    metric_observe(words, 20000000);
    cr_expect(words[2] == 1 && words[METRIC_BOUNDS + 1] == 1 && words[0] == 20000700);
}

Test(metrics, quantiles)
{
    uint64_t words[METRIC_SIZE_BUCKET] = {0};
    cr_expect_eq(metric_quantile(words, 0.5), UINT64_MAX);
    words[2] = 100; /* 500 to 1000 us */
    cr_expect_eq(metric_quantile(words, 0.5), 750u);
    cr_expect_eq(metric_quantile(words, 1), 1000u);
    words[1] = 300;
    cr_expect_eq(metric_quantile(words, 0.5), 333u);
    words[METRIC_BOUNDS + 1] = 400;
    cr_expect_eq(metric_quantile(words, 0.99), 10000000u, "no more is known of it");
}

/* Two shards never write to one cache line. */
Test(metrics, each_seat_has_its_own_cache_line)
{
    for (unsigned seat = 1; seat < SHARE_SEATS; seat++) {
        uintptr_t here = (uintptr_t)share_front(share, seat);
        uintptr_t before = (uintptr_t)share_front(share, seat - 1);
        cr_assert(here % 64 == 0 && here - before >= sizeof(struct front_words));
    }
}
