#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/unix_socket.h"

static char folder[] = "/tmp/test_unix_socket.XXXXXX";
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
}

static void remove_folder(void)
{
    unlink(address.sun_path);
    cr_assert_eq(rmdir(folder), 0);
}

TestSuite(unix_socket, .init = make_folder, .fini = remove_folder);

static int bind_there(int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

/* By its whole path, and by its name in an open folder: the same. */
static int look(struct stat *ret_st)
{
    struct stat other;
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = unix_socket_look(dir, "s", &address, ret_st);
    cr_assert_eq(unix_socket_look(AT_FDCWD, address.sun_path, &address, &other), r);
    cr_assert(other.st_ino == ret_st->st_ino && other.st_dev == ret_st->st_dev);
    close(dir);
    return r;
}

Test(unix_socket, nothing_there)
{
    struct stat st;
    cr_expect_eq(look(&st), UNIX_SOCKET_ABSENT);
    cr_expect_eq(st.st_mode, 0);
}

Test(unix_socket, is_stale_before_listen_and_after_the_end)
{
    struct stat st, now;
    int fd = bind_there(SOCK_STREAM);
    cr_expect_eq(look(&st), UNIX_SOCKET_STALE);
    cr_assert_eq(listen(fd, 1), 0);
    cr_expect_eq(look(&st), UNIX_SOCKET_LIVE);
    close(fd);
    cr_expect_eq(look(&st), UNIX_SOCKET_STALE);
    cr_assert_eq(lstat(address.sun_path, &now), 0, "it is still there");
    cr_expect_eq(st.st_ino, now.st_ino);
}

Test(unix_socket, is_live_with_a_full_backlog)
{
    struct stat st;
    int fds[8], fd = bind_there(SOCK_STREAM), r = 0;
    size_t n = 0;
    cr_assert_eq(listen(fd, 0), 0);
    while (r == 0 && n < 8) {
        fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        r = connect(fds[n++], (struct sockaddr *)&address, sizeof(address));
    }
    cr_assert(r < 0 && errno == EAGAIN);
    cr_expect_eq(look(&st), UNIX_SOCKET_LIVE);
    while (n > 0)
        close(fds[--n]);
    close(fd);
}

Test(unix_socket, other_files)
{
    struct stat st;
    int fd = open(address.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_expect_eq(look(&st), UNIX_SOCKET_FILE);
    unlink(address.sun_path);
    cr_assert_eq(symlink("nowhere", address.sun_path), 0);
    cr_expect_eq(look(&st), UNIX_SOCKET_FILE);
    cr_expect(S_ISLNK(st.st_mode));
}

Test(unix_socket, a_stale_one_of_another_user)
{
    struct stat st;
    if (geteuid() != 0)
        cr_skip_test("only root can make one");
    close(bind_there(SOCK_STREAM));
    cr_assert_eq(lchown(address.sun_path, 1, 1), 0);
    cr_expect_eq(look(&st), UNIX_SOCKET_FOREIGN);
    cr_expect_eq(st.st_uid, 1);
}

Test(unix_socket, errors)
{
    struct stat st;
    int fd = bind_there(SOCK_DGRAM);
    cr_expect_eq(look(&st), -EPROTOTYPE);
    cr_expect(S_ISSOCK(st.st_mode));
    close(fd);
    cr_expect_eq(unix_socket_look(AT_FDCWD, "/dev/null/s", &address, &st), -ENOTDIR);
    cr_expect_eq(st.st_mode, 0);
}
