#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/system/folder.h"
#include "tests/unit/support/descriptors.h"

static char base[64];
static char error[512];
static size_t open_before;

static void run(const char *command)
{
    char line[512];
    snprintf(line, sizeof(line), "cd %s && %s", base, command);
    cr_assert_eq(system(line), 0, "%s", line);
}

static void set_up(void)
{
    snprintf(base, sizeof(base), "/tmp/test_folder-XXXXXX");
    cr_assert_not_null(mkdtemp(base));
    open_before = open_count();
}

static void tear_down(void)
{
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
    run("rm -rf ./*");
    rmdir(base);
}

TestSuite(folder, .init = set_up, .fini = tear_down);

static int try_open(const char *name, bool make)
{
    char path[256];
    error[0] = '\0';
    snprintf(path, sizeof(path), "%s/%s", base, name);
    int fd = folder_open(path, make, error, sizeof(error));
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

Test(folder, is_made_where_it_may_be)
{
    struct stat st;
    char path[256];
    cr_expect_eq(try_open("new", false), -ENOENT);
    mode_t before = umask(077);
    cr_expect_eq(try_open("new", true), 0, "%s", error);
    umask(before);
    snprintf(path, sizeof(path), "%s/new", base);
    cr_assert_eq(stat(path, &st), 0);
    cr_expect_eq(st.st_mode & 07777, 0750, "whatever the umask is");
    cr_expect_eq(try_open("new", true), 0);
    cr_expect_eq(try_open("new/", true), 0);
    cr_expect_eq(try_open("./new/../new", true), 0);
    cr_expect_eq(try_open("none/new", true), -ENOENT, "only the last");
    cr_expect_eq(folder_open("relative", true, error, sizeof(error)), -EINVAL);
    cr_expect_eq(folder_open("", true, error, sizeof(error)), -EINVAL);
    cr_expect_eq(folder_open("/", true, error, sizeof(error)), -EINVAL);
    char longest[5000];
    memset(longest, '/', sizeof(longest));
    longest[4999] = '\0';
    longest[4998] = 'x';
    cr_expect_eq(folder_open(longest, true, error, sizeof(error)), -EINVAL);
}

/* How the folder, or what is on the way to it, has been prepared by somebody. */
Test(folder, of_others)
{
    static const struct {
        const char *prepare;
        const char *name;
        int result;
        const char *says;
        bool as_root;
    } cases[] = {
        {"mkdir d && chmod 755 d", "d", 0, NULL, false},
        {"mkdir d && chmod 775 d", "d", -EPERM, "others can write to it", false},
        {"mkdir d && chmod 757 d", "d", -EPERM, "others can write to it", false},
        {"mkdir d && chmod 1777 d", "d", -EPERM, "others can write to it", false},
        {"mkdir d && chown 1 d", "d", -EPERM, "it belongs to user 1", true},
        {">d", "d", -ENOTDIR, "not a folder", false},
        {"mkfifo d", "d", -ENOTDIR, "not a folder", false},
        {"mkdir e && ln -s e d", "d", -ENOTDIR, "a symbolic link is not followed", false},
        {"ln -s nowhere d", "d", -ENOTDIR, "a symbolic link is not followed", false},
        /* On the way to it: */
        {"mkdir -p a/d && chmod 775 a", "a/d", -EPERM, "'a' on the way can be written to", false},
        {"mkdir -p a/d && chmod 757 a", "a/d", -EPERM, "'a' on the way can be written to", false},
        {"mkdir -p a/d && chmod 1777 a", "a/d", 0, NULL, false},
        {"mkdir -p a/d && chown 1 a", "a/d", -EPERM, "'a' on the way belongs to user 1", true},
        {"mkdir -p b/d && ln -s b a", "a/d", 0, NULL, false},
        {"mkdir -p b/d && ln -s $PWD/b a", "a/d", 0, NULL, false},
        {"mkdir -p x/b/d c && ln -s c/../x//b/. a", "a/d", 0, NULL, false},
        {"mkdir -p b/d && ln -s b a && chown -h 1 a", "a/d", -ELOOP, "link 'a' on the way", true},
        {"mkdir -p b/d && ln -s b a && chmod 775 b", "a/d", -EPERM, "'b' on the way", false},
        {"ln -s a a", "a/d", -ELOOP, "link 'a' on the way", false},
        {"ln -s a2 a && ln -s a a2", "a/d", -ELOOP, "on the way", false},
        {">a", "a/d", -ENOTDIR, "'a' on the way", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (cases[i].as_root && geteuid() != 0)
            continue;
        run("rm -rf ./*");
        run(cases[i].prepare);
        for (int make = 0; make < 2; make++)
            cr_expect_eq(try_open(cases[i].name, make), cases[i].result, "case %zu: %s", i, error);
        if (cases[i].says != NULL)
            cr_expect_not_null(strstr(error, cases[i].says), "case %zu: %s", i, error);
    }
}

static int open_base(void)
{
    int fd = folder_open(base, false, error, sizeof(error));
    cr_assert_geq(fd, 0, "%s", error);
    return fd;
}

Test(folder, files_of_others)
{
    static const struct {
        const char *prepare;
        int result;
        bool as_root;
    } cases[] = {
        {"printf 12345 >f && chmod 600 f", 0, false},
        {"printf 12345 >f && chmod 644 f", 0, false},
        {"true", -ENOENT, false},
        {"printf 12345 >f && chmod 660 f", -EPERM, false},
        {"printf 12345 >f && chmod 602 f", -EPERM, false},
        {"printf 12345 >f && chown 1 f", -EPERM, true},
        {"printf 12345 >f && ln f g", -EPERM, false},
        {"printf 12345 >g && ln -s g f", -ELOOP, false},
        {"mkfifo f", -EPERM, false},
        {"mkdir f", -EPERM, false},
        {"printf 1234567 >f", -EFBIG, false},
        {"ln -s /dev/zero f", -ELOOP, false},
    };
    int dir = open_base();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = NULL;
        size_t n = 77;
        if (cases[i].as_root && geteuid() != 0)
            continue;
        run("rm -rf ./*");
        run(cases[i].prepare);
        cr_expect_eq(folder_read(dir, "f", 6, &text, &n), cases[i].result, "case %zu", i);
        if (cases[i].result == 0)
            cr_expect(n == 5 && strcmp(text, "12345") == 0, "case %zu", i);
        else
            cr_expect(n == 77 && text == NULL, "case %zu: untouched", i);
        mem_free(text);
    }
    close(dir);
}

/* Whatever has the name, or that of the file which is written first, is not written to. */
Test(folder, a_file_replaces_what_is_there)
{
    static const char *const prepare[] = {"true", "printf old >f", "printf x >g && ln -s g f",
        "printf x >g && ln g f", "mkfifo f", "printf x >g && ln -s g f.new",
        "printf x >g && ln g f.new", "mkfifo f.new", "printf x >f.new"};
    int dir = open_base();
    for (size_t i = 0; i < ARRAY_LEN(prepare); i++) {
        struct stat st;
        char *text;
        size_t n;
        run("rm -rf ./*");
        run(prepare[i]);
        cr_assert_eq(folder_write(dir, "f", "new", 3), 0, "case %zu", i);
        cr_assert_eq(folder_read(dir, "f", 100, &text, &n), 0, "case %zu", i);
        cr_expect(n == 3 && strcmp(text, "new") == 0, "case %zu", i);
        mem_free(text);
        cr_expect(fstatat(dir, "f", &st, 0) == 0 && (st.st_mode & 07777) == 0600, "case %zu", i);
        cr_expect(fstatat(dir, "f.new", &st, AT_SYMLINK_NOFOLLOW) < 0, "case %zu", i);
        if (fstatat(dir, "g", &st, 0) == 0)
            cr_expect_eq(st.st_size, 1, "case %zu: the other file is as it was", i);
    }
    run("rm -rf ./* && mkdir f");
    cr_expect_lt(folder_write(dir, "f", "new", 3), 0);
    cr_expect_eq(faccessat(dir, "f.new", F_OK, 0), -1, "nothing is left");
    run("rm -rf ./* && mkdir f.new");
    cr_expect_eq(folder_write(dir, "f", "new", 3), -EEXIST);
    close(dir);
}

Test(folder, only_what_was_looked_at_is_unlinked)
{
    struct stat st;
    int dir = open_base();
    run("printf x >f");
    cr_assert_eq(fstatat(dir, "f", &st, 0), 0);
    run("mv f g && printf y >f");
    cr_expect_eq(folder_unlink(dir, "f", st.st_dev, st.st_ino), -EEXIST);
    cr_expect_eq(faccessat(dir, "f", F_OK, 0), 0);
    cr_expect_eq(folder_unlink(dir, "g", st.st_dev, st.st_ino), 0);
    cr_expect_eq(folder_unlink(dir, "g", st.st_dev, st.st_ino), -ENOENT);
    run("ln -s f g");
    cr_assert_eq(fstatat(dir, "f", &st, 0), 0);
    cr_expect_eq(folder_unlink(dir, "g", st.st_dev, st.st_ino), -EEXIST, "a link is another");
    close(dir);
}

/* Opens "d/NAME" as a log; closes it again. Returns 0 or -errno. */
static int try_log(const char *name, bool make)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/d", base);
    int dir = folder_open(path, false, error, sizeof(error));
    cr_assert_geq(dir, 0, "%s", error);
    int fd = folder_open_log(dir, name, make);
    close(dir);
    if (fd < 0)
        return fd;
    cr_expect_eq(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE | O_APPEND),
        strcmp(name, "fifo") == 0 ? O_NONBLOCK | O_RDWR : O_NONBLOCK | O_WRONLY | O_APPEND);
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    return 0;
}

Test(folder, logs)
{
    static const struct {
        const char *made; /* in the folder */
        const char *name;
        int r;
    } rows[] = {
        {"touch a", "a", 0},
        {"touch a && chmod 620 a", "a", -EPERM},
        {"touch a && chmod 602 a", "a", -EPERM},
        {"touch a && ln a b", "a", -EPERM},
        {"ln -s a b", "b", -ELOOP},
        {"mkdir a", "a", -EISDIR},
        {"mkfifo -m 600 fifo", "fifo", 0},
        {"mkfifo -m 622 fifo && chmod 622 fifo", "fifo", -EPERM},
        {"true", "a", -ENOENT},
    };
    run("mkdir -m 700 d");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char command[128];
        snprintf(command, sizeof(command), "cd d && umask 077 && %s", rows[i].made);
        run(command);
        cr_expect_eq(try_log(rows[i].name, false), rows[i].r, "%s: %d", rows[i].made,
            try_log(rows[i].name, false));
        run("rm -rf d/*");
    }
    cr_expect_eq(try_log("new", true), 0);
    run("test \"$(stat -c %a d/new)\" = 640 || test \"$(umask)\" != 0022");
}
