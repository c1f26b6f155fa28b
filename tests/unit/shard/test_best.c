#include <criterion/criterion.h>

#include "common/alloc.h"
#include "frontd/shard/inspect/best.h"

struct row {
    unsigned key;
    unsigned note;
};

static const int the_order;

static int order(const void *a, const void *b, const void *by)
{
    const struct row *one = a;
    const struct row *two = b;
    cr_assert_eq(by, &the_order);
    return one->key < two->key ? -1 : one->key > two->key;
}

/* Numbers in no order, none of them twice: 7 generates the numbers below 65537. */
static unsigned number(unsigned i)
{
    unsigned x = 1;
    for (unsigned k = 0; k < i; k++)
        x = x * 3 % 65537;
    return x;
}

Test(best, keeps_those_that_come_first)
{
    for (unsigned n = 0; n <= 40; n++) {
        for (unsigned limit = 1; limit <= 42; limit += 5) {
            struct best best;
            void *kept;
            best_init(&best, sizeof(struct row), limit, order, &the_order);
            for (unsigned i = 0; i < n; i++) {
                struct row row = {.key = number(i), .note = ~number(i)};
                cr_assert_eq(best_offer(&best, &row, &kept), 0);
                cr_assert(kept == NULL || ((struct row *)kept)->key == row.key);
                cr_assert(kept != NULL || i >= limit);
            }
            best_sort(&best);
            cr_assert_eq(best.count, MIN(n, limit));
            for (unsigned i = 0; i < best.count; i++) {
                const struct row *row = best_row(&best, i);
                unsigned before = 0; /* how many come before it */
                for (unsigned k = 0; k < n; k++)
                    before += number(k) < row->key;
                cr_assert_eq(before, i, "%u of %u, limit %u", i, n, limit);
                cr_assert_eq(row->note, ~row->key);
            }
            best_deinit(&best);
        }
    }
    cr_assert_eq(mem_in_use(), (size_t)0);
}

Test(best, no_memory)
{
    struct row row = {1, 1};
    struct best best;
    void *kept;
    for (long n = 0; n < 2; n++) {
        best_init(&best, sizeof(row), 3, order, &the_order);
        mem_fail_after(n);
        cr_assert_eq(best_offer(&best, &row, &kept), -12);
        cr_assert_null(kept);
        cr_assert_eq(best_offer(&best, &row, &kept), 0);
        best_deinit(&best);
    }
    cr_assert_eq(mem_in_use(), (size_t)0);
}
