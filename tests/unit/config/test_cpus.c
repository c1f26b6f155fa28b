#include <criterion/criterion.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontd/config/cpus.h"
#include "tests/unit/support/tree.h"

enum { NONE = -1 };

static char root[64];
static bool mounted; /* whether there is a mountinfo */

static void set_up(void)
{
    strcpy(root, "/tmp/conf-cpus-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    mounted = false;
}

static void tear_down(void)
{
    tree_remove(root);
}

TestSuite(conf_cpus, .init = set_up, .fini = tear_down);

static void put(const char *path, const char *text)
{
    tree_put(root, path, text);
}

/* Each "%R" in the text is the root. */
static void put_mounts(const char *text)
{
    char made[16384] = "";
    for (const char *p = text; *p != '\0';) {
        bool is_root = p[0] == '%' && p[1] == 'R';
        size_t n = strlen(made);
        snprintf(made + n, sizeof(made) - n, "%.*s", is_root ? (int)strlen(root) : 1,
            is_root ? root : p);
        p += is_root ? 2 : 1;
    }
    put("/mountinfo", made);
    mounted = true;
}

/* For a process in those groups; NONE: there is no quota. */
static int64_t of(const char *groups)
{
    char cgroup[256];
    char mountinfo[256];
    char usual[256];
    put("/self", groups);
    snprintf(cgroup, sizeof(cgroup), "%s/self", root);
    snprintf(mountinfo, sizeof(mountinfo), "%s/mountinfo", root);
    snprintf(usual, sizeof(usual), "%s/fs", root);
    const struct cgroup_files files = {cgroup, mounted ? mountinfo : NULL, usual};
    uint64_t cpus = conf_cpus_of_groups(&files);
    return cpus == UINT64_MAX ? NONE : (int64_t)cpus;
}

Test(conf_cpus, what_a_quota_is_of_version_2)
{
    static const struct {
        const char *text;
        int64_t cpus;
    } cases[] = {
        {"max 100000\n", NONE},
        {"200000 100000\n", 2},
        {"200000 100000", 2},
        {"200001 100000\n", 3}, /* rounded up */
        {"199999 100000\n", 2},
        {"100000 100000\n", 1},
        {"1000 100000\n", 1},
        {"1000 1000000\n", 1},
        {"150000 50000\n", 3},
        {"9223372036854775807 1\n", INT64_MAX},
        /* Nothing of this is a quota. */
        {"", NONE},
        {"\n", NONE},
        {"200000\n", NONE},
        {"200000 \n", NONE},
        {"200000 0\n", NONE},
        {"0 100000\n", NONE},
        {"200000 max\n", NONE},
        {"200000 -1\n", NONE},
        {"-1 100000\n", NONE},
        {"-200000 100000\n", NONE},
        {"+200000 100000\n", NONE},
        {" 200000 100000\n", NONE},
        {"200000x 100000\n", NONE},
        {"200000 100000x\n", NONE},
        {"0x30d40 100000\n", NONE},
        {"2e5 100000\n", NONE},
        {"18446744073709551615 1\n", NONE},
        {"18446744073709551616 100000\n", NONE},
        {"200000 99999999999999999999999999\n", NONE},
        {"200000\t100000\n", NONE},
        {"200000 100000 1\n", 2}, /* more may come in later kernels */
        {"\n200000 100000\n", NONE},
        {"200000 000000000000000000000000000000000000000000000000000000000000100000\n", NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        put("/fs/a/cpu.max", cases[i].text);
        cr_expect_eq(of("0::/a\n"), cases[i].cpus, "case %zu: %s", i, cases[i].text);
    }
}

Test(conf_cpus, what_a_quota_is_of_version_1)
{
    static const struct {
        const char *quota, *period;
        int64_t cpus;
    } cases[] = {
        {"-1\n", "100000\n", NONE},
        {"250000\n", "100000\n", 3},
        {"50000\n", "100000\n", 1},
        {"400000\n", "200000", 2},
        {"250000\n", "0\n", NONE},
        {"250000\n", "-1\n", NONE},
        {"250000\n", "", NONE},
        {"250000\n", "x\n", NONE},
        {"0\n", "100000\n", NONE},
        {"", "100000\n", NONE},
        {"max\n", "100000\n", NONE},
        {"99999999999999999999\n", "100000\n", NONE},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        put("/fs/cpu/a/cpu.cfs_quota_us", cases[i].quota);
        put("/fs/cpu/a/cpu.cfs_period_us", cases[i].period);
        cr_expect_eq(of("4:cpu,cpuacct:/a\n"), cases[i].cpus, "case %zu", i);
    }
}

Test(conf_cpus, the_least_of_a_group_and_those_around_it)
{
    put("/fs/a/b/c/cpu.max", "max 100000\n");
    put("/fs/a/b/cpu.max", "700000 100000\n");
    put("/fs/a/cpu.max", "300000 100000\n");
    put("/fs/d/cpu.max", "500000 100000\n");
    cr_expect_eq(of("0::/a/b/c\n"), 3);
    cr_expect_eq(of("0::/a/b/c/nothing/there\n"), 3);
    cr_expect_eq(of("0::/a/b (deleted)\n"), 3);
    cr_expect_eq(of("0::/d\n"), 5, "not that of a sibling");
    cr_expect_eq(of("0::/a/b/cc\n"), 3);
    cr_expect_eq(of("0::/\n"), NONE);
    put("/fs/cpu.max", "400000 100000\n"); /* a container's own */
    cr_expect_eq(of("0::/\n"), 4);
    cr_expect_eq(of("0::/d\n"), 4);
    cr_expect_eq(of("0::/../../other\n"), 4, "what is outside of the namespace is not looked for");
    put("/cpu.max", "100000 100000\n");
    cr_expect_eq(of("0::/..\n"), 4);
}

Test(conf_cpus, which_hierarchy)
{
    put("/fs/cpu/a/cpu.cfs_quota_us", "200000\n");
    put("/fs/cpu/a/cpu.cfs_period_us", "100000\n");
    put("/fs/a/cpu.max", "300000 100000\n");
    cr_expect_eq(of("1:name=systemd:/a\n"), NONE);
    cr_expect_eq(of("5:cpuset:/a\n6:cpuacct:/a\n7:mycpu,cpus:/a\n"), NONE);
    cr_expect_eq(of("4:cpuacct,cpu:/a\n"), 2);
    cr_expect_eq(of("4:cpu:/a\n"), 2);
    cr_expect_eq(of("0::/a\n"), 3);
    cr_expect_eq(of("0::/a\n4:cpu:/a\n"), 2, "the least of both");
    cr_expect_eq(of("4:cpu:a\n0::a\n"), NONE, "no path");
    cr_expect_eq(of("\n:\n::\n0\n0:\n0::\nx::\n"), NONE);
    cr_expect_eq(of(""), NONE);
}

Test(conf_cpus, where_it_is_mounted)
{
    put("/fs/a/cpu.max", "100000 100000\n"); /* not where it is mounted */
    put("/two/a/b/cpu.max", "600000 100000\n");
    put("/two/cpu.max", "700000 100000\n");
    put("/one spaced/a/cpu.cfs_quota_us", "500000\n");
    put("/one spaced/a/cpu.cfs_period_us", "100000\n");
    put_mounts("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
               "30 21 0:27 / %R/two rw,nosuid shared:4 master:2 - cgroup2 cgroup2 rw,nsdelegate\n"
               "31 21 0:28 / %R/one\\040spaced rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
               "32 21 0:29 / %R/fs rw,nosuid - cgroup cgroup rw,memory\n");
    cr_expect_eq(of("0::/a/b\n"), 6);
    cr_expect_eq(of("4:cpu,cpuacct:/a\n"), 5);
    cr_expect_eq(of("0::/a\n"), 7);
    /* A part of the hierarchy: a container that sees its own group, with its name outside. */
    put("/part/cpu.max", "800000 100000\n");
    put("/part/in/cpu.max", "900000 100000\n");
    put_mounts("30 21 0:27 /docker/0123 %R/part rw - cgroup2 cgroup2 rw\n");
    cr_expect_eq(of("0::/docker/0123\n"), 8);
    cr_expect_eq(of("0::/docker/0123/in\n"), 8);
    put("/part/in/cpu.max", "200000 100000\n");
    cr_expect_eq(of("0::/docker/0123/in\n"), 2);
    cr_expect_eq(of("0::/docker/01234\n"), NONE, "another group");
    cr_expect_eq(of("0::/a\n"), 1, "none that has it: the usual place");
    /* One that is mounted twice. */
    put_mounts("30 21 0:27 /docker %R/nothing rw - cgroup2 cgroup2 rw\n"
               "31 21 0:27 /docker/0123 %R/part rw - cgroup2 cgroup2 rw\n");
    cr_expect_eq(of("0::/docker/0123\n"), 8);
}

Test(conf_cpus, mounts_that_are_none)
{
    char line[10000];
    put("/fs/a/cpu.max", "200000 100000\n");
    static const char *const texts[] = {"", "\n", "-\n", " - \n", " - cgroup2\n",
        " - cgroup2 cgroup2\n", " - cgroup2 cgroup2 rw\n", "1 2 3 - cgroup2 cgroup2 rw\n",
        "1 2 3 / - cgroup2 cgroup2 rw\n", "1 2 3 / %R/x\n", "1 2 3 / %R/x - cgroup2x c rw\n",
        "1 2 3 \\057docker %R/x - cgroup2 c rw\n", "1 2 3 /\\4 %R/x - cgroup2 c rw\n"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        put_mounts(texts[i]);
        cr_expect_eq(of("0::/a\n"), 2, "case %zu", i);
    }
    /* Lines that are too long are passed over whole: their rest is no line. */
    memcpy(line, "30 21 0:27 / ", 13);
    for (size_t n = 4096; n < 9000; n += 97) {
        memset(line + 13, 'x', sizeof(line) - 13);
        snprintf(line + n, sizeof(line) - n, " 30 21 0:27 / /nowhere rw - cgroup2 cgroup2 rw\n");
        put("/mountinfo", line);
        mounted = true;
        cr_expect_eq(of("0::/a\n"), 2, "%zu", n);
    }
    line[sizeof(line) - 1] = '\0';
    memcpy(line, "0::/", 4);
    memset(line + 4, 'a', sizeof(line) - 5);
    mounted = false;
    cr_expect_eq(of(line), NONE);
}

Test(conf_cpus, nothing_to_read)
{
    const struct cgroup_files nothing = {"/nonexistent", "/nonexistent", "/nonexistent"};
    cr_expect_eq(conf_cpus_of_groups(&nothing), UINT64_MAX);
    put("/fs/a/cpu.max/folder", "");
    cr_expect_eq(of("0::/a\n"), NONE);
}

Test(conf_cpus, not_more_than_the_scheduler_gives)
{
    cpu_set_t cpus;
    cr_assert_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    cr_expect(conf_cpus() >= 1 && conf_cpus() <= (uint64_t)CPU_COUNT(&cpus));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) { /* one of those */
        if (!CPU_ISSET(cpu, &cpus))
            continue;
        CPU_ZERO(&cpus);
        CPU_SET(cpu, &cpus);
        cr_assert_eq(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
        break;
    }
    cr_expect_eq(conf_cpus(), 1u);
}
