#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fdpass.h"
#include "tests/unit/support/descriptors.h"

static int ends[2];
static size_t open_before;

static void set_up(void)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    open_before = open_count();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
}

static void tear_down(void)
{
    fdpass_close(ends, 2);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(fdpass, .init = set_up, .fini = tear_down);

/* Sends `n` copies of one file. */
static int send_copies(size_t n)
{
    int fds[FDPASS_FDS_MAX];
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(file, 0);
    for (size_t i = 0; i < n; i++)
        fds[i] = file;
    int r = fdpass_send(ends[0], "batch", 5, fds, n);
    close(file);
    return r;
}

Test(fdpass, messages_with_any_number)
{
    static const size_t counts[] = {0, 1, 2, 100, FDPASS_FDS_MAX - 1, FDPASS_FDS_MAX};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        char message[16];
        int fds[FDPASS_FDS_MAX];
        size_t nfds = 77;
        cr_assert_eq(send_copies(counts[i]), 0);
        cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), 5);
        cr_assert_eq(memcmp(message, "batch", 5), 0);
        cr_assert_eq(nfds, counts[i]);
        struct stat null;
        cr_assert_eq(stat("/dev/null", &null), 0);
        for (size_t j = 0; j < nfds; j++) {
            struct stat st;
            cr_assert_eq(fstat(fds[j], &st), 0);
            cr_assert_eq(st.st_rdev, null.st_rdev);
            cr_assert(fcntl(fds[j], F_GETFD) & FD_CLOEXEC, "close-on-exec from birth");
        }
        fdpass_close(fds, nfds);
    }
}

Test(fdpass, messages_stay_apart)
{
    char message[16];
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    cr_assert_eq(send_copies(2), 0);
    cr_assert_eq(fdpass_send(ends[0], "plain", 5, NULL, 0), 0);
    cr_assert_eq(send_copies(1), 0);
    static const size_t wanted[] = {2, 0, 1};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), 5);
        cr_assert_eq(nfds, wanted[i]);
        fdpass_close(fds, nfds);
    }
}

Test(fdpass, a_message_that_is_too_long_is_refused)
{
    char message[4];
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 77;
    cr_assert_eq(send_copies(3), 0);
    cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), -EMSGSIZE);
    cr_assert_eq(nfds, (size_t)77);
}

/* At its descriptor limit the kernel drops what does not fit, and MSG_CTRUNC is all it says. */
Test(fdpass, at_the_descriptor_limit_the_message_is_an_error)
{
    enum { SENT = 50, ROOM = 20 };
    struct rlimit before;
    char message[16];
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 77;
    cr_assert_eq(send_copies(SENT), 0);
    size_t count = open_count();
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(lowest);
    struct rlimit low = {(rlim_t)lowest + ROOM, before.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ssize_t r = fdpass_receive(ends[1], message, sizeof(message), fds, &nfds);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    cr_assert_eq(r, -EMSGSIZE);
    cr_assert_eq(nfds, (size_t)77);
    cr_assert_eq(open_count(), count, "those that did come are closed");

    cr_assert_eq(send_copies(SENT), 0);
    cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), 5);
    cr_assert_eq(nfds, (size_t)SENT);
    fdpass_close(fds, nfds);
}

Test(fdpass, nothing_there_and_nobody_there)
{
    char message[16];
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 77;
    cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), -EAGAIN);
    int r = 0;
    for (int i = 0; i < 100000 && r == 0; i++)
        r = fdpass_send(ends[0], "x", 1, NULL, 0);
    cr_assert_eq(r, -EAGAIN, "a full socket");
    close(ends[0]);
    ssize_t n;
    while ((n = fdpass_receive(ends[1], message, sizeof(message), fds, &nfds)) == 1)
        continue;
    cr_assert_eq(n, 0, "the peer has closed");
    cr_assert_eq(fdpass_send(ends[1], "x", 1, NULL, 0), -EPIPE, "and no signal");
    ends[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

Test(fdpass, what_a_peer_said_before_it_closed)
{
    char message[16];
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 77;
    cr_assert_eq(fdpass_send(ends[1], "unread", 6, NULL, 0), 0);
    cr_assert_eq(send_copies(3), 0);
    close(ends[0]);
    cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), 5);
    cr_assert_eq(nfds, 3u);
    fdpass_close(fds, nfds);
    cr_assert_eq(fdpass_receive(ends[1], message, sizeof(message), fds, &nfds), 0);
    ends[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}
