#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fdpass.h"
#include "frontd/ipc/admin_setup.h"
#include "tests/unit/support/descriptors.h"

static int pair[2];
static int null_fd;
static size_t open_before;

static void set_up(void)
{
    open_before = open_count();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void tear_down(void)
{
    close(pair[0]);
    close(pair[1]);
    close(null_fd);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(admin_setup, .init = set_up, .fini = tear_down);

static int receive(struct admin_setup *setup, int *fds, int *sockets)
{
    return admin_setup_receive(pair[1], setup, fds, sockets);
}

Test(admin_setup, arrives)
{
    struct admin_setup setup = {.generation = 7, .instance = "abc", .conf_name = "/etc/c.yaml"};
    struct admin_setup got;
    int fds[ADMIN_FDS] = {null_fd, null_fd, null_fd, -1, null_fd};
    int sockets[ADMIN_SOCKETS_MAX];
    for (uint32_t n = 0; n <= ADMIN_SOCKETS_MAX; n += ADMIN_SOCKETS_MAX / 2) {
        int got_fds[ADMIN_FDS];
        int got_sockets[ADMIN_SOCKETS_MAX];
        for (uint32_t i = 0; i < n; i++)
            sockets[i] = null_fd;
        setup.table.pools[3] = 42;
        cr_assert_eq(admin_setup_send(pair[0], &setup, fds, sockets, n), 0);
        cr_assert_eq(receive(&got, got_fds, got_sockets), 0);
        cr_expect_eq(got.generation, 7);
        cr_expect_eq(got.nsockets, n);
        cr_expect_eq(got.table.pools[3], 42);
        cr_expect_str_eq(got.conf_name, "/etc/c.yaml");
        for (size_t i = 0; i < ADMIN_FDS; i++) {
            cr_expect_eq(got_fds[i] >= 0, i != ADMIN_TOKEN, "%zu", i);
            if (got_fds[i] >= 0)
                close(got_fds[i]);
        }
        fdpass_close(got_sockets, n);
    }
}

Test(admin_setup, what_is_none)
{
    struct admin_setup setup = {0};
    struct admin_setup got;
    int fds[ADMIN_FDS] = {null_fd, null_fd, null_fd, -1, -1};
    int sockets[ADMIN_SOCKETS_MAX];
    cr_expect_eq(receive(&got, fds, sockets), -EAGAIN);
    fds[ADMIN_ASK] = -1; /* one that it needs */
    cr_assert_eq(admin_setup_send(pair[0], &setup, fds, NULL, 0), 0);
    cr_expect_eq(receive(&got, fds, sockets), -EPROTO);
    fds[ADMIN_ASK] = null_fd;
    cr_assert_eq(admin_setup_send(pair[0], &setup, fds, NULL, 0), 0);
    setup.magic++;
    cr_assert_eq(fdpass_send(pair[0], &setup, sizeof(setup), fds, 3), 0);
    cr_assert_eq(fdpass_send(pair[0], &setup, 9, fds, 0), 0);
    int got_fds[ADMIN_FDS];
    cr_assert_eq(receive(&got, got_fds, sockets), 0);
    fdpass_close(got_fds, 3);
    cr_expect_eq(receive(&got, got_fds, sockets), -EPROTO, "another beginning");
    cr_expect_eq(receive(&got, got_fds, sockets), -EPROTO, "too short");
    setup.magic--;
    cr_assert_eq(fdpass_send(pair[0], &setup, sizeof(setup), fds, 2), 0);
    cr_expect_eq(receive(&got, got_fds, sockets), -EPROTO, "a descriptor is missing");
    shutdown(pair[0], SHUT_RDWR);
    cr_expect_eq(receive(&got, got_fds, sockets), -EPIPE);
}

Test(admin_setup, signs_of_life)
{
    int fds[FDPASS_FDS_MAX];
    size_t n;
    cr_expect_eq(admin_setup_hear(pair[0], fds, &n), -EAGAIN);
    admin_setup_beat(pair[1]);
    cr_expect_eq(admin_setup_hear(pair[0], fds, &n), 0);
    cr_expect_eq(n, 0);
    for (int i = 0; i < 1000; i++)
        admin_setup_beat(pair[1]); /* nobody reads: it does not wait */
    while (admin_setup_hear(pair[0], fds, &n) == 0)
        ;
    cr_assert_eq(send(pair[1], "c", 1, 0), 1);
    cr_expect_eq(admin_setup_hear(pair[0], fds, &n), -EPROTO);
    cr_assert_eq(send(pair[1], "bb", 2, 0), 2);
    cr_expect_eq(admin_setup_hear(pair[0], fds, &n), -EPROTO);
    cr_assert_eq(fdpass_send(pair[1], "b", 1, &null_fd, 1), 0);
    cr_expect_eq(admin_setup_hear(pair[0], fds, &n), -EPROTO);
    cr_expect_eq(n, 1, "the caller's");
    fdpass_close(fds, n);
    shutdown(pair[1], SHUT_RDWR);
    cr_expect_eq(admin_setup_hear(pair[0], fds, &n), -EPIPE);
}
