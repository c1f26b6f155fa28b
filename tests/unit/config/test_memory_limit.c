#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontd/config/memory_limit.h"
#include "tests/unit/support/tree.h"

static char root[64];

static void set_up(void)
{
    strcpy(root, "/tmp/conf-memory-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
}

static void tear_down(void)
{
    tree_remove(root);
}

TestSuite(conf_memory, .init = set_up, .fini = tear_down);

static void put(const char *path, const char *text)
{
    tree_put(root, path, text);
}

static uint64_t of(const char *groups)
{
    char path[256];
    put("/self", groups);
    snprintf(path, sizeof(path), "%s/self", root);
    const struct cgroup_files files = {path, NULL, root};
    return conf_memory_of_groups(&files);
}

Test(conf_memory, version_2)
{
    put("/a/b/memory.max", "max\n");
    put("/a/memory.max", "700000000\n");
    put("/memory.max", "900000000\n");
    put("/c/memory.max", "800000000\n");
    cr_expect_eq(of("0::/a/b\n"), 700000000U, "that of a group that it is in");
    cr_expect_eq(of("0::/c\n"), 800000000U);
    cr_expect_eq(of("0::/c/nothing/there\n"), 800000000U);
    cr_expect_eq(of("0::/\n"), 900000000U);
}

Test(conf_memory, version_1)
{
    put("/memory/a/memory.limit_in_bytes", "300000000\n");
    put("/memory/memory.limit_in_bytes", "9223372036854771712\n");
    cr_expect_eq(of("3:cpuset:/a\n4:cpu,memory:/a\n0::/\n"), 300000000U);
    cr_expect_eq(of("4:memory:/\n"), UINT64_C(9223372036854771712));
    cr_expect_eq(of("4:memory_of_others:/a\n5:cpu:/a\n"), UINT64_MAX);
}

Test(conf_memory, nothing_to_read)
{
    const struct cgroup_files nothing = {"/nonexistent", "/nonexistent", root};
    cr_expect_eq(conf_memory_of_groups(&nothing), UINT64_MAX);
    cr_expect_eq(of(""), UINT64_MAX);
    cr_expect_eq(of("0\n:\n0:\n::\n0::/a\n"), UINT64_MAX);
    put("/a/memory.max", "");
    cr_expect_eq(of("0::/a\n"), UINT64_MAX);
}

Test(conf_memory, shares)
{
    const uint64_t gib = 1 << 30, mib = 1 << 20;
    cr_expect_eq(conf_memory_share(8 * gib, 2), 2 * gib);
    cr_expect_eq(conf_memory_share(8 * gib, 0), 4 * gib);
    cr_expect_eq(conf_memory_share(128 * mib, 1), 64 * mib);
    cr_expect_eq(conf_memory_share(130 * mib, 1), 65 * mib);
    cr_expect_eq(conf_memory_share(1 * mib, 31), 64 * mib, "at least so much");
    cr_expect_eq(conf_memory_share(UINT64_MAX, 1), (uint64_t)1 << 40, "at most what can be set");
    cr_expect(conf_memory_default(1) >= 64 * mib);
    cr_expect(conf_memory_default(31) <= conf_memory_default(1));
}
