#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontd/supervisor/tls/secret_file.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/dumps.h"

static char folder[64];
static char path[128];
static size_t open_before;

static void set_up(void)
{
    snprintf(folder, sizeof(folder), "/tmp/test_secret_file-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/key", folder);
    open_before = open_count();
}

static void tear_down(void)
{
    char link[128];
    snprintf(link, sizeof(link), "%s/link", folder);
    unlink(path);
    unlink(link);
    rmdir(folder);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(secret_file, .init = set_up, .fini = tear_down, .timeout = 60);

static void write_file(const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

Test(secret_file, is_read)
{
    struct secret_file file;
    write_file("a key", 0640);
    cr_assert_eq(secret_file_read(path, 5, &file), 0);
    cr_expect_eq(file.n, 5);
    cr_expect_eq(memcmp(file.text, "a key", 5), 0);
    cr_expect_eq(file.st.st_mode & 07777, 0640);
    cr_expect(is_left_out_of_dumps(file.text));
    secret_file_free(&file);
    cr_expect_null(file.text);
    secret_file_free(&file);
    cr_expect_eq(secret_file_read(path, 4, &file), -EFBIG);
    write_file("", 0600);
    cr_assert_eq(secret_file_read(path, 0, &file), 0);
    cr_expect_eq(file.n, 0);
    secret_file_free(&file);
}

Test(secret_file, through_a_link)
{
    struct secret_file file;
    char link[128];
    snprintf(link, sizeof(link), "%s/link", folder);
    cr_assert_eq(symlink("key", link), 0);
    cr_expect_eq(secret_file_read(link, 100, &file), -ENOENT);
    write_file("x", 0604);
    cr_assert_eq(secret_file_read(link, 100, &file), 0);
    cr_expect_eq(file.n, 1);
    cr_expect_eq(file.st.st_mode & 07777, 0604, "of what the link leads to");
    secret_file_free(&file);
}

Test(secret_file, what_is_no_plain_file_is_not_waited_for)
{
    struct secret_file file;
    cr_expect_eq(secret_file_read(folder, 100, &file), -EISDIR);
    cr_expect_eq(secret_file_read("/dev/zero", 100, &file), -EISDIR);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_expect_eq(secret_file_read(path, 100, &file), -EISDIR);
}

Test(secret_file, one_that_says_less_than_it_has)
{
    struct secret_file file;
    /* Of such a file stat() says that it is empty. */
    cr_expect_eq(secret_file_read("/proc/self/status", 100000, &file), -EAGAIN);
}

Test(secret_file, words)
{
    cr_expect_str_eq(secret_file_explain(-EISDIR), "not a plain file");
    cr_expect_str_eq(secret_file_explain(-EFBIG), "the file is too large");
    cr_expect_str_eq(secret_file_explain(-EAGAIN), "the file grew while it was read");
    cr_expect_str_eq(secret_file_explain(-EACCES), "Permission denied");
}
