#include <criterion/criterion.h>
#include <string.h>

#include "frontd/ipc/shm_layout.h"
#include "frontd/ipc/shm_names.h"
#include "tests/unit/support/shm.h"

TestSuite(shm_names, .init = make_memory_of_test, .fini = unmap_memory_of_test);

static unsigned claim(enum metric_kind kind, unsigned ref, const char *name)
{
    return share_name_claim(share, kind, ref, (struct span){name, strlen(name)});
}

Test(shm_names, rows)
{
    cr_expect_eq(share_name_find(share, METRIC_KIND_route, 1, SPAN("/a")), 0u);
    unsigned row = claim(METRIC_KIND_route, 1, "/a");
    cr_expect_eq(row, 1u);
    cr_expect_eq(claim(METRIC_KIND_route, 1, "/a"), row, "it keeps its row");
    cr_expect_eq(share_name_find(share, METRIC_KIND_route, 1, SPAN("/a")), row);
    cr_expect_eq(claim(METRIC_KIND_route, 2, "/a"), 2u, "of another listener");
    cr_expect_eq(claim(METRIC_KIND_pair, 1, "/a"), 1u, "of another kind");
    struct share_name name;
    cr_assert(share_name_of(share, METRIC_KIND_route, 2, &name));
    cr_expect(name.ref == 2 && name.n == 2 && memcmp(name.text, "/a", 2) == 0);
    cr_expect_not(share_name_of(share, METRIC_KIND_route, 3, &name));
    cr_assert(share_name_of(share, METRIC_KIND_route, 0, &name));
    cr_expect(name.n == 5 && memcmp(name.text, "other", 5) == 0);
}

/* At the limit, and one past it. */
Test(shm_names, no_row_is_left)
{
    char name[16];
    for (unsigned i = 1; i < METRIC_ROWS_method; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        cr_assert_eq(claim(METRIC_KIND_method, 0, name), i);
    }
    cr_expect_eq(claim(METRIC_KIND_method, 0, "one more"), 0u);
    cr_expect_eq(claim(METRIC_KIND_method, 0, "m7"), 7u);
}

/* Names that differ only where they are cut are two. */
Test(shm_names, long_names)
{
    char long_name[SHARE_NAME_MAX + 20];
    struct share_name names[3];
    memset(long_name, 'x', sizeof(long_name));
    for (unsigned i = 0; i < 3; i++) {
        size_t n = i == 0 ? SHARE_NAME_MAX : sizeof(long_name);
        long_name[sizeof(long_name) - 1] = (char)('0' + i);
        unsigned row = share_name_claim(share, METRIC_KIND_route, 0, (struct span){long_name, n});
        cr_assert_eq(row, i + 1);
        cr_assert(share_name_of(share, METRIC_KIND_route, row, &names[i]));
        cr_expect_eq(names[i].n, SHARE_NAME_MAX);
    }
    cr_expect_eq(names[0].text[SHARE_NAME_MAX - 1], 'x');
    cr_expect_eq(names[1].text[SHARE_NAME_MAX - 9], '~');
    cr_expect_neq(memcmp(names[1].text, names[2].text, SHARE_NAME_MAX), 0);
}

/* A process has died before it wrote the name; one has written what it likes. */
Test(shm_names, what_is_read_is_bounded)
{
    struct name_row *row = &share->memory->names[METRIC_KIND_method][1];
    struct share_name name;
    cr_assert_eq(claim(METRIC_KIND_method, 0, "m"), 1u);
    row->len = 0;
    cr_expect_eq(claim(METRIC_KIND_method, 0, "m"), 1u);
    cr_assert(share_name_of(share, METRIC_KIND_method, 1, &name));
    cr_expect(name.n == 1 && name.text[0] == 'm');
    row->len = UINT32_MAX;
    row->ref = UINT32_MAX;
    cr_assert(share_name_of(share, METRIC_KIND_method, 1, &name));
    cr_expect(name.n == SHARE_NAME_MAX && name.ref == 0xffff);
}
