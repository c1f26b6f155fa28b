#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontd/supervisor/paths.h"
#include "proto/json_read.h"

static char base[64];
static char self[PATH_MAX];
static struct paths paths;

static const char *in_base(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", base, name);
    return path;
}

/* A name of this very program, or with NULL of another one. */
static void link_to(const char *name, const char *target)
{
    cr_assert_eq(symlink(target == NULL ? "/bin/true" : target, in_base(name)), 0);
}

/* In BASE/link, which leads to BASE/one; $PATH has its "bin" as a relative name. */
static void set_up(void)
{
    strcpy(base, "/tmp/paths-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    ssize_t n = readlink(PATHS_SELF, self, sizeof(self) - 1);
    cr_assert_gt(n, 0);
    cr_assert_eq(mkdir(in_base("one"), 0700), 0);
    cr_assert_eq(mkdir(in_base("one/bin"), 0700), 0);
    cr_assert_eq(mkdir(in_base("two"), 0700), 0);
    cr_assert_eq(symlink("one", in_base("link")), 0);
    link_to("one/frontd", self);
    link_to("one/bin/found", self);
    link_to("one/bin/another", NULL);
    cr_assert_eq(chdir(in_base("link")), 0);
    setenv("PWD", in_base("link"), 1);
    setenv("PATH", "/nonexistent:bin:/bin", 1);
}

static void tear_down(void)
{
    char command[128];
    cr_assert_eq(chdir("/"), 0);
    snprintf(command, sizeof(command), "/bin/rm -r %s", base);
    cr_expect_eq(system(command), 0);
}

TestSuite(paths, .init = set_up, .fini = tear_down);

/* What the kernel has executed here, as far as that is a path still. */
static const char *executed(void)
{
    const char *path = (const char *)(uintptr_t)getauxval(AT_EXECFN);
    return path[0] == '/' && strncmp(path, "/proc/", 6) != 0 ? path : self;
}

Test(paths, of_the_program)
{
    static const struct {
        const char *argv0, *exe; /* below the base; NULL: what was executed */
    } cases[] = {
        {"./frontd", "link/frontd"},
        {"frontd/../frontd", NULL}, /* nothing is there: the kernel knows better */
        {"../one/frontd", "link/../one/frontd"}, {"bin/found", "link/bin/found"},
        {"bin/another", "link/bin/another"}, /* a path: a script may stand for the program */
        {"found", "link/bin/found"}, {"another", NULL}, /* the name of another program in $PATH */
        {"true", NULL}, {"nowhere", NULL}, {"-frontd", NULL}, {"", NULL},
        {"frontd", NULL}, /* the working directory is not in $PATH */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        paths_find(&paths, cases[i].argv0, "frontd.yaml");
        cr_expect_str_eq(paths.exe, cases[i].exe == NULL ? executed() : in_base(cases[i].exe),
            "case %zu: %s", i, paths.exe);
    }
    setenv("PATH", ":/bin", 1); /* but in this one it is */
    paths_find(&paths, "frontd", "frontd.yaml");
    cr_expect_str_eq(paths.exe, in_base("link/frontd"));
    unsetenv("PWD");
    paths_find(&paths, "./frontd", "frontd.yaml");
    cr_expect_str_eq(paths.exe, in_base("one/frontd"), "no better name is known");
    paths_find(&paths, in_base("one/../link/frontd"), "frontd.yaml");
    cr_expect_str_eq(paths.exe, in_base("one/../link/frontd"), "as given");
}

Test(paths, of_the_config_and_the_folder)
{
    paths_find(&paths, "./frontd", "frontd.yaml");
    cr_expect_str_eq(paths.conf, in_base("link/frontd.yaml"));
    cr_expect_str_eq(paths.cwd, in_base("link"));
    paths_find(&paths, "./frontd", "/etc/frontd.yaml");
    cr_expect_str_eq(paths.conf, "/etc/frontd.yaml");
    /* The link is switched: the folder is another one. */
    struct stat before;
    struct stat after;
    cr_assert_eq(stat(".", &before), 0);
    cr_assert_eq(unlink(in_base("link")), 0);
    cr_assert_eq(symlink("two", in_base("link")), 0);
    cr_expect_eq(paths_enter(&paths), 0);
    cr_assert_eq(stat(".", &after), 0);
    cr_expect_neq(before.st_ino, after.st_ino);
    cr_assert_eq(unlink(in_base("link")), 0);
    cr_expect_eq(paths_enter(&paths), -ENOENT);
}

Test(paths, without_a_folder)
{
    cr_assert_eq(chdir(in_base("two")), 0);
    setenv("PWD", in_base("two"), 1);
    cr_assert_eq(rmdir(in_base("two")), 0);
    paths_find(&paths, "/bin/true", "frontd.yaml");
    cr_expect_str_eq(paths.exe, "/bin/true");
    cr_expect_str_eq(paths.conf, "frontd.yaml");
    cr_expect_str_eq(paths.cwd, "");
    cr_expect_eq(paths_enter(&paths), -ENOENT);
}

/* What is too long to be a path stays as it is, and fails where it is used. */
Test(paths, too_long)
{
    static char large[PATH_MAX];
    memset(large, 'a', sizeof(large) - 1);
    paths_find(&paths, "./frontd", large);
    cr_expect_str_eq(paths.conf, large);
}

Test(paths, this_program_is_there)
{
    cr_expect_eq(paths_try_self(), 0);
}

static void restore(const char *state)
{
    paths_find(&paths, "./frontd", "frontd.yaml");
    paths_restore(&paths, (struct span){state, strlen(state)});
}

Test(paths, saved_and_restored)
{
    struct json_writer out = {0};
    struct paths other = {.exe = "/opt/\xff\"/frontd", .cwd = "/srv/current"};
    json_begin(&out, NULL, '{');
    paths_save(&other, &out);
    json_end(&out, '}');
    cr_assert_not(out.failed);
    buf_append(&out.out, "", 1);
    restore(buf_data(&out.out));
    buf_deinit(&out.out);
    cr_expect_str_eq(paths.exe, other.exe);
    cr_expect_str_eq(paths.cwd, other.cwd);
    static const char *const states[] = {"{}", "{\"exe\":\"\",\"cwd\":\"\"}",
        "{\"exe\":\"66726f6e7464\",\"cwd\":\"737276\"}", /* not absolute */
        "{\"exe\":\"2f00\",\"cwd\":\"002f\"}", "{\"exe\":\"2f6\",\"cwd\":\"2fxx\"}",
        "{\"exe\":7,\"cwd\":null}", "{\"exe\":[],\"cwd\":{}}"};
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        restore(states[i]);
        cr_expect_str_eq(paths.exe, in_base("link/frontd"), "case %zu: %s", i, paths.exe);
        cr_expect_str_eq(paths.cwd, in_base("link"), "case %zu: %s", i, paths.cwd);
    }
    static char large[3 * PATH_MAX];
    for (size_t n = PATH_MAX - 1; n <= PATH_MAX; n++) { /* at the limit, and beyond it */
        char *end = large + sprintf(large, "{\"exe\":\"");
        for (size_t i = 0; i < n; i++)
            end += sprintf(end, "2f");
        sprintf(end, "\"}");
        restore(large);
        cr_expect_eq(strlen(paths.exe), n < PATH_MAX ? n : strlen(in_base("link/frontd")));
    }
}
