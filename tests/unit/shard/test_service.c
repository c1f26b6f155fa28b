#include <criterion/criterion.h>

#include "frontd/shard/upstream/service.h"

static struct service measured(uint64_t us, uint32_t calls, uint64_t now)
{
    struct service service = {0};
    for (uint32_t i = 0; i < calls; i++)
        service_note(&service, us, now);
    return service;
}

Test(service, a_few_calls_say_nothing)
{
    struct service service = measured(2000, SERVICE_WINDOW - 1, 5);
    cr_expect_not(service_known(&service, 5));
    service_note(&service, 2000, 5);
    cr_expect(service_known(&service, 5));
}

Test(service, old_calls_say_nothing)
{
    struct service service = measured(2000, SERVICE_WINDOW, 5);
    cr_expect(service_known(&service, 5 + SERVICE_STALE_MS));
    cr_expect_not(service_known(&service, 6 + SERVICE_STALE_MS));
    service_note(&service, 1, 6 + SERVICE_STALE_MS);
    cr_expect_not(service_known(&service, 6 + SERVICE_STALE_MS), "it begins anew");
    cr_expect_eq(service.mean_ns, 1000u);
}

/* The least is of one window at least, and of two at most. */
Test(service, the_least_of_the_last)
{
    struct service service = measured(2000, SERVICE_WINDOW - 1, 5);
    service_note(&service, 70, 5);
    cr_expect_eq(service_least(&service), 70u);
    service_note(&service, 60, 5);
    cr_expect_eq(service_least(&service), 60u);
    for (uint32_t i = 1; i < 2 * SERVICE_WINDOW - 1; i++)
        service_note(&service, 900, 5);
    cr_expect_eq(service_least(&service), 60u);
    service_note(&service, 901, 5);
    cr_expect_eq(service_least(&service), 900u);
}

Test(service, the_mean_follows)
{
    struct service service = {0};
    for (uint32_t i = 0; i < SERVICE_WINDOW; i++)
        service_note(&service, i % 2 == 0 ? 30 : 50, 5);
    cr_expect(service.mean_ns > 37000 && service.mean_ns < 43000, "%llu",
        (unsigned long long)service.mean_ns);
    for (uint32_t i = 0; i < 2 * SERVICE_WINDOW; i++)
        service_note(&service, 1000, 5);
    cr_expect(service.mean_ns > 990000 && service.mean_ns <= 1000000);
}

Test(service, the_wait)
{
    static const struct {
        uint64_t us, ahead, slots, wait;
    } rows[] = {
        {2000, 0, 8, 0}, {2000, 1, 8, 250}, {2000, 8, 8, 2000}, {2000, 10000, 1, 20000000},
        {1, 5, 1, 5}, {UINT64_MAX, UINT64_MAX, 1, 10000000000000000}, /* no overflow */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct service service = measured(rows[i].us, SERVICE_WINDOW, 5);
        cr_expect_eq(service_wait(&service, rows[i].ahead, rows[i].slots), rows[i].wait, "%zu", i);
    }
}

/* So many calls, of which half take `us` less than the mean, and half as much more. */
static struct service spread(uint64_t mean, uint64_t us)
{
    struct service service = {0};
    for (uint32_t i = 0; i < 2 * SERVICE_WINDOW; i++)
        service_note(&service, i % 2 == 0 ? mean - us : mean + us, 5);
    return service;
}

Test(service, the_deviation_follows)
{
    static const uint64_t rows[] = {0, 100, 900};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double dev = (double)spread(1000, rows[i]).dev_ns;
        double want = (double)rows[i] * 1000;
        cr_expect(dev >= 0.85 * want && dev <= 1.05 * want, "%zu: %f", i, dev);
    }
}

/* What is left for a call when its turn comes is to be what most calls take, or half its time. */
Test(service, a_call_that_would_be_late)
{
    static const struct {
        uint64_t mean, dev, wait, left;
        bool late;
    } rows[] = {
        {1000, 0, 0, 0, false},
        {1000, 0, 1, 0, true},
        {1000, 0, 8000, 10000, false},
        {1000, 0, 8000, 9999, true},
        {1000, 500, 8000, 12000, false},
        {1000, 500, 8000, 11999, true},
        {1000, 5000, 8000, 18000, false}, /* half of it */
        {1000, 5000, 8000, 17998, true},
        {1000, 0, UINT64_MAX / 2, UINT32_MAX, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct service service = {
            .mean_ns = rows[i].mean * 1000, .dev_ns = rows[i].dev * 1000, .known = true};
        cr_expect_eq(service_is_late(&service, rows[i].wait, rows[i].left), rows[i].late, "%zu", i);
    }
}
