#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cwd.h"

static char base[64];
static char path[128];

static const char *in_base(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", base, name);
    return path;
}

static void set_up(void)
{
    strcpy(base, "/tmp/cwd-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    cr_assert_eq(mkdir(in_base("one"), 0700), 0);
    cr_assert_eq(mkdir(in_base("two"), 0700), 0);
    cr_assert_eq(symlink("one", in_base("link")), 0);
    cr_assert_eq(chdir(in_base("link")), 0);
}

static void tear_down(void)
{
    char command[128];
    cr_assert_eq(chdir("/"), 0);
    snprintf(command, sizeof(command), "rm -r %s", base);
    cr_expect_eq(system(command), 0);
}

TestSuite(cwd, .init = set_up, .fini = tear_down);

static void expect_name(const char *pwd, const char *name)
{
    char found[PATH_MAX];
    if (pwd == NULL)
        unsetenv("PWD");
    else
        setenv("PWD", pwd, 1);
    cr_assert_eq(cwd_name(found, sizeof(found)), 0);
    cr_expect_str_eq(found, in_base(name), "PWD=%s", pwd == NULL ? "" : pwd);
}

Test(cwd, names_of_a_folder)
{
    char other[256];
    expect_name(in_base("link"), "link");
    expect_name(in_base("one"), "one");
    snprintf(other, sizeof(other), "%s//link", base);
    setenv("PWD", other, 1);
    char found[PATH_MAX];
    cr_assert_eq(cwd_name(found, sizeof(found)), 0);
    cr_expect_str_eq(found, other);
    expect_name(in_base("...hidden"), "one"); /* there is none */
    cr_assert_eq(symlink("one", in_base("..hidden")), 0);
    expect_name(in_base("..hidden"), "..hidden");
    /* Not what the shell has left behind, nor what is no name of it. */
    expect_name(in_base("two"), "one");
    expect_name(in_base("gone"), "one");
    expect_name(in_base("two/../link"), "one");
    expect_name(in_base("link/."), "one");
    expect_name(in_base("./link"), "one");
    expect_name(".", "one");
    expect_name("", "one");
    expect_name("link", "one");
    expect_name(NULL, "one");
}

Test(cwd, a_name_that_does_not_fit)
{
    char found[PATH_MAX] = "as it was";
    setenv("PWD", in_base("link"), 1);
    size_t n = strlen(path);
    cr_expect_eq(cwd_name(found, n + 1), 0);
    cr_expect_eq(cwd_name(found, n), 0, "the kernel's is shorter by one");
    cr_expect_str_eq(found, in_base("one"));
    cr_expect_eq(cwd_name(found, n - 1), -ENAMETOOLONG);
}

Test(cwd, a_folder_that_is_gone)
{
    char found[PATH_MAX];
    setenv("PWD", in_base("one"), 1);
    cr_assert_eq(rmdir(path), 0);
    cr_expect_eq(cwd_name(found, sizeof(found)), -ENOENT);
}

Test(cwd, joined)
{
    static const struct {
        const char *dir, *path, *joined;
    } cases[] = {
        {"/srv/app", "frontd", "/srv/app/frontd"},
        {"/srv/app", "./frontd", "/srv/app/frontd"},
        {"/srv/app", ".//./bin/frontd", "/srv/app/bin/frontd"},
        {"/srv/app", "../frontd", "/srv/app/../frontd"}, /* of where the link leads */
        {"/srv/app", ".frontd", "/srv/app/.frontd"},
        {"/srv/app", "/usr/bin/frontd", "/usr/bin/frontd"},
        {"/", "frontd", "/frontd"},
        {"/", "/frontd", "/frontd"},
    };
    char joined[PATH_MAX];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cr_expect_eq(cwd_join(cases[i].dir, cases[i].path, joined, sizeof(joined)), 0);
        cr_expect_str_eq(joined, cases[i].joined, "case %zu: %s", i, joined);
    }
    cr_assert_eq(cwd_join("/a", "b", joined, sizeof("/a/b")), 0);
    cr_assert_eq(cwd_join("/a", joined, joined, sizeof(joined)), 0, "in place");
    cr_expect_str_eq(joined, "/a/b");
    cr_expect_eq(cwd_join("/a", "b", joined, sizeof("/a/b") - 1), -ENAMETOOLONG);
    char large[PATH_MAX + 8];
    memset(large, 'a', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    cr_expect_eq(cwd_join("/a", large, joined, sizeof(joined)), -ENAMETOOLONG);
    cr_expect_str_eq(joined, "/a/b", "as it was");
}
