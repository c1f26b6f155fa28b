#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontd/supervisor/admin_token.h"
#include "tests/unit/support/descriptors.h"

static char folder[64];
static char path[128];
static char warned[1024];
static char error[1024];
static size_t open_before;
static struct conf conf;

static void keep(void *data, const char *text)
{
    (void)data;
    snprintf(warned, sizeof(warned), "%s", text);
}

static const struct conf_findings findings = {.odd = keep};

static void set_up(void)
{
    snprintf(folder, sizeof(folder), "/tmp/test_admin_token-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/token", folder);
    conf.admin.token_file = (struct conf_tls_file){.path = path, .line = 7};
    open_before = open_count();
}

static void tear_down(void)
{
    unlink(path);
    rmdir(folder);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(admin_token, .init = set_up, .fini = tear_down);

static void write_file(const char *text, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(fd >= 0 && write(fd, text, n) == (ssize_t)n && fchmod(fd, mode) == 0);
    close(fd);
}

static int load(int *ret_fd)
{
    warned[0] = error[0] = '\0';
    return admin_token_load("c.yaml", &conf, &findings, ret_fd, error, sizeof(error));
}

Test(admin_token, is_handed_on_sealed)
{
    char text[64];
    int fd = -1;
    write_file("abc-._~+/=XYZ0189\n", 18, 0640);
    cr_assert_eq(load(&fd), 0, "%s", error);
    cr_expect_str_eq(warned, "");
    cr_expect_eq(pread(fd, text, sizeof(text), 0), 17);
    cr_expect_eq(memcmp(text, "abc-._~+/=XYZ0189", 17), 0);
    cr_expect_lt(pwrite(fd, "x", 1, 0), 0);
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    cr_expect_eq(load(NULL), 0);
    conf.admin.token_file.path = NULL;
    cr_expect_eq(load(&fd), 0);
    cr_expect_eq(fd, -1);
}

Test(admin_token, its_length)
{
    static char text[ADMIN_TOKEN_MAX + 3];
    memset(text, 'a', sizeof(text));
    cr_expect_eq(admin_token_length(text, ADMIN_TOKEN_MAX), ADMIN_TOKEN_MAX);
    cr_expect_eq(admin_token_length(text, ADMIN_TOKEN_MAX + 1), 0);
    text[ADMIN_TOKEN_MAX] = '\r';
    text[ADMIN_TOKEN_MAX + 1] = '\n';
    cr_expect_eq(admin_token_length(text, ADMIN_TOKEN_MAX + 2), ADMIN_TOKEN_MAX);
    int fd = -1;
    write_file(text, ADMIN_TOKEN_MAX + 2, 0600);
    cr_expect_eq(load(&fd), 0, "%s", error);
    close(fd);
    text[ADMIN_TOKEN_MAX] = 'a';
    write_file(text, ADMIN_TOKEN_MAX + 1, 0600);
    cr_expect_eq(load(&fd), -EINVAL);
    write_file(text, ADMIN_TOKEN_MAX + 3, 0600);
    cr_expect_eq(load(&fd), -EFBIG);
}

Test(admin_token, what_is_wrong)
{
    static const char *const wrong[] = {
        "", "\n", "\r\n", "a b", " a", "a\n\n", "a\nb\n", "a,b", "\xc3\xa4"};
    char wanted[256];
    int fd = -1;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        write_file(wrong[i], strlen(wrong[i]), 0600);
        cr_expect_eq(load(&fd), -EINVAL, "%s", wrong[i]);
        snprintf(wanted, sizeof(wanted), "c.yaml:7: admin.token_file: %s: there has to be one line",
            path);
        cr_expect_eq(strncmp(error, wanted, strlen(wanted)), 0, "%s", error);
    }
    write_file("a\0b", 3, 0600);
    cr_expect_eq(load(&fd), -EINVAL);
    unlink(path);
    cr_expect_eq(load(&fd), -ENOENT);
    cr_expect_not_null(strstr(error, "cannot read it: No such file"), "%s", error);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_expect_eq(load(&fd), -EISDIR);
    rmdir(path);
}

Test(admin_token, what_is_hardly_meant)
{
    static const char token[] = "0123456789abcdef";
    int fd = -1;
    static const struct {
        mode_t mode;
        size_t n;
        const char *warning;
    } rows[] = {
        {0600, 16, ""},
        {0640, 16, ""},
        {0644, 16, "its mode is 0644: others than its owner and its group may read it"},
        {0660, 16, "its mode is 0660: others than its owner and its group may change it"},
        {0600, 15, "the token has 15 bytes"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        write_file(token, rows[i].n, rows[i].mode);
        cr_assert_eq(load(&fd), 0, "%s", error);
        close(fd);
        if (rows[i].warning[0] == '\0')
            cr_expect_str_eq(warned, "");
        else
            cr_expect_not_null(strstr(warned, rows[i].warning), "%s", warned);
    }
}
