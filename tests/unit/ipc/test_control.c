#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/ipc/control.h"
#include "tests/unit/support/descriptors.h"

enum { CTL_LAST = CTL_TELL };

static int ends[2];
static size_t open_before;

static void set_up(void)
{
    open_before = open_count();
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
}

static void tear_down(void)
{
    fdpass_close(ends, 2);
    cr_assert_eq(open_count(), open_before, "no descriptor is lost");
}

TestSuite(ctl, .init = set_up, .fini = tear_down);

/* A message as ctl_send() makes it, taken off the socket again. */
static size_t message_of(enum ctl_type type, struct ctl_message *ret_message)
{
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    struct ctl_message message = {0};
    cr_assert_eq(ctl_send(ends[0], type, &message, NULL, 0), 0);
    ssize_t n = fdpass_receive(ends[1], ret_message, sizeof(*ret_message), fds, &nfds);
    cr_assert_gt(n, 0);
    cr_assert_eq(nfds, 0);
    return (size_t)n;
}

/* Sends these bytes with `nfds` descriptors, and receives them as a message. */
static int receive(const void *bytes, size_t n, size_t nfds, struct ctl_message *ret_message)
{
    int fds[FDPASS_FDS_MAX];
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < nfds; i++)
        fds[i] = file;
    cr_assert_eq(fdpass_send(ends[0], bytes, n, fds, nfds), 0);
    close(file);
    size_t got = 0;
    int r = ctl_receive(ends[1], ret_message, fds, &got);
    if (r == 0) {
        cr_assert_eq(got, nfds);
        fdpass_close(fds, got);
    }
    return r;
}

Test(ctl, start_arrives_as_it_was_sent)
{
    struct ctl_message sent = {.u.start = {.incarnation = UINT64_MAX,
                                   .generation = 7,
                                   .seat = 3,
                                   .shard = 1,
                                   .shards = 2,
                                   .instance = "0123456789abcdef",
                                   .conn_key = {1, 2, 3, [IDS_KEY_SIZE - 1] = 0xff},
                                   .conf_name = "/etc/frontd.yaml"}};
    struct ctl_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    for (size_t i = 0; i < CTL_START_FDS; i++)
        fds[i] = ends[i % 2];
    cr_assert_eq(ctl_send(ends[0], CTL_START, &sent, fds, CTL_START_FDS), 0);
    cr_assert_eq(ctl_receive(ends[1], &got, fds, &nfds), 0);
    cr_expect_eq(nfds, CTL_START_FDS);
    cr_expect_eq(got.type, CTL_START);
    cr_expect_eq(memcmp(&got.u.start, &sent.u.start, sizeof(sent.u.start)), 0);
    for (size_t i = 0; i < nfds; i++)
        cr_expect(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    fdpass_close(fds, nfds);
}

Test(ctl, the_number_of_descriptors_is_checked)
{
    static const struct {
        enum ctl_type type;
        uint32_t count; /* of LISTEN */
        size_t fds;
        int result;
    } cases[] = {
        {CTL_START, 0, 0, -EPROTO},
        {CTL_START, 0, CTL_START_FDS - 1, -EPROTO},
        {CTL_START, 0, CTL_START_FDS, 0},
        {CTL_START, 0, CTL_START_FDS + 1, -EPROTO},
        {CTL_REPORT, 0, 0, -EPROTO},
        {CTL_REPORT, 0, 1, 0},
        {CTL_REPORT, 0, 2, -EPROTO},
        {CTL_LISTEN, 0, 0, 0},
        {CTL_LISTEN, 0, 1, -EPROTO},
        {CTL_LISTEN, 2, 1, -EPROTO},
        {CTL_LISTEN, 2, 2, 0},
        {CTL_LISTEN, 2, 3, -EPROTO},
        {CTL_LISTEN, CTL_LISTEN_MAX, CTL_LISTEN_MAX, 0},
        {CTL_LISTEN, CTL_LISTEN_MAX + 1, CTL_LISTEN_MAX + 1, -EPROTO},
        {CTL_LISTEN, UINT32_MAX, FDPASS_FDS_MAX, -EPROTO},
        {CTL_RUN, 0, 0, 0},
        {CTL_RUN, 0, 1, -EPROTO},
        {CTL_READY, 0, 0, 0},
        {CTL_READY, 0, 1, -EPROTO},
        {CTL_DRAIN, 0, 0, 0},
        {CTL_DRAIN, 0, 1, -EPROTO},
        {CTL_OPEN, 0, 0, 0},
        {CTL_OPEN, 0, 1, -EPROTO},
        {CTL_HUNG, 0, 0, 0},
        {CTL_HUNG, 0, 1, -EPROTO},
        {CTL_TICKETS, 0, 0, 0},
        {CTL_TICKETS, 0, 1, -EPROTO},
        {CTL_ASK, 0, 0, -EPROTO},
        {CTL_ASK, 0, 1, 0},
        {CTL_ASK, 0, 2, -EPROTO},
        {CTL_TELL, 0, 0, -EPROTO},
        {CTL_TELL, 0, 1, 0},
        {CTL_TELL, 0, 2, -EPROTO},
        {CTL_TLS, 0, 0, -EPROTO},
        {CTL_TLS, 0, 1, 0},
        {CTL_TLS, 0, 2, -EPROTO},
        {CTL_LEAVE, 0, 0, 0},
        {CTL_LEAVE, 0, 1, -EPROTO},
        {CTL_PEER, 0, 1, -EPROTO},
        {CTL_PEER, 0, 2, 0},
        {CTL_PEER, 0, 3, -EPROTO},
        {CTL_TAKE, 0, 0, -EPROTO},
        {CTL_TAKE, 0, 1, 0},
        {CTL_TAKE, 0, 2, -EPROTO},
        {CTL_GIVE, 0, 0, -EPROTO},
        {CTL_GIVE, 0, 1, 0},
        {CTL_GIVE, 0, 2, -EPROTO},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ctl_message message;
        size_t n = message_of(cases[i].type, &message);
        if (cases[i].type == CTL_LISTEN)
            message.u.listen.count = cases[i].count;
        struct ctl_message got;
        cr_expect_eq(receive(&message, n, cases[i].fds, &got), cases[i].result, "case %zu", i);
    }
}

Test(ctl, every_other_length_is_refused)
{
    for (unsigned type = CTL_START; type <= CTL_LAST; type++) {
        char bytes[sizeof(struct ctl_message) + 2] = {0};
        struct ctl_message message;
        struct ctl_message got;
        size_t n = message_of((enum ctl_type)type, &message);
        size_t fds = type == CTL_START ? CTL_START_FDS
                     : type == CTL_PEER
                         ? CTL_PEER_FDS
                         : type == CTL_TAKE || type == CTL_GIVE || type == CTL_REPORT ||
                               type == CTL_TLS || type == CTL_ASK || type == CTL_TELL;
        memcpy(bytes, &message, sizeof(message));
        for (size_t cut = 1; cut <= sizeof(message); cut++) {
            int r = receive(bytes, cut, fds, &got);
            cr_expect_eq(
                r, cut == n ? 0 : -EPROTO, "type %u, %zu of %zu bytes: %d", type, cut, n, r);
        }
        /* Nor does it help to say another length. */
        for (int off = -1; off <= 1; off += 2) {
            message.length = (uint32_t)n + (uint32_t)off;
            cr_expect_eq(receive(&message, n, fds, &got), -EPROTO);
        }
        cr_expect_lt(receive(bytes, sizeof(bytes), fds, &got), 0, "longer than any message");
    }
}

Test(ctl, other_versions_types_and_programs_are_refused)
{
    struct ctl_message right;
    struct ctl_message got;
    size_t n = message_of(CTL_RUN, &right);
    struct ctl_message wrong = right;
    cr_expect_eq(receive(&wrong, n, 0, &got), 0);
    wrong.version = CTL_VERSION + 1;
    cr_expect_eq(receive(&wrong, n, 2, &got), -ENOTSUP);
    wrong = right;
    wrong.magic ^= 1;
    cr_expect_eq(receive(&wrong, n, 2, &got), -EPROTO);
    wrong = right;
    wrong.type = 0;
    cr_expect_eq(receive(&wrong, n, 0, &got), -EPROTO);
    wrong.type = CTL_LAST + 1;
    cr_expect_eq(receive(&wrong, n, 0, &got), -EPROTO);
}

/* Whatever else another version says with it: a shard that is to end does. */
Test(ctl, leave_and_drain_of_other_versions)
{
    for (unsigned type = 0; type <= CTL_LAST + 1; type++) {
        bool understood = type == CTL_LEAVE || type == CTL_DRAIN;
        for (size_t more = 0; more <= sizeof(struct ctl_start); more += 8) {
            struct ctl_message message;
            struct ctl_message got;
            memset(&message, 0xff, sizeof(message));
            size_t n = offsetof(struct ctl_message, u) + more;
            struct ctl_message known;
            message_of(CTL_RUN, &known);
            message.magic = known.magic;
            message.version = CTL_VERSION + 1;
            message.type = (uint16_t)type;
            message.length = (uint32_t)n;
            cr_expect_eq(receive(&message, n, 0, &got), understood ? 0 : -ENOTSUP, "type %u", type);
            cr_expect_eq(receive(&message, n, 1, &got), -ENOTSUP, "type %u", type);
            if (understood) {
                cr_assert_eq(receive(&message, n, 0, &got), 0);
                cr_expect(ctl_is_foreign(&got) && got.type == type);
                cr_expect_eq(got.u.leave.removed, 0);
            }
            message.length++;
            cr_expect_eq(receive(&message, n, 0, &got), -EPROTO);
        }
    }
}

Test(ctl, nothing_there_and_nobody_there)
{
    struct ctl_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    cr_expect_eq(ctl_receive(ends[1], &got, fds, &nfds), -EAGAIN);
    shutdown(ends[0], SHUT_RDWR);
    cr_expect_eq(ctl_receive(ends[1], &got, fds, &nfds), -EPIPE);
}

Test(ctl, texts_end)
{
    struct ctl_message message;
    struct ctl_message got;
    int fds[CTL_START_FDS] = {ends[0], ends[0], ends[0]};
    int received[FDPASS_FDS_MAX];
    size_t nfds;
    memset(&message, 'x', sizeof(message));
    cr_assert_eq(ctl_send(ends[0], CTL_START, &message, fds, CTL_START_FDS), 0);
    cr_assert_eq(ctl_receive(ends[1], &got, received, &nfds), 0);
    fdpass_close(received, nfds);
    cr_expect_not_null(memchr(got.u.start.instance, 0, sizeof(got.u.start.instance)));
    cr_expect_not_null(memchr(got.u.start.conf_name, 0, sizeof(got.u.start.conf_name)));
}

/* A caller that must not close a stranger's descriptors gets all of them, whatever is wrong. */
Test(ctl, descriptors_of_what_is_refused)
{
    struct ctl_message ready;
    size_t n = message_of(CTL_READY, &ready);
    const struct {
        size_t n, nfds;
        int result;
    } cases[] = {
        {n, 0, 0},
        {n, 1, -EPROTO},
        {n, FDPASS_FDS_MAX, -EPROTO},
        {n - 1, 2, -EPROTO},
        {1, 2, -EPROTO},
        {0, 0, -EPIPE}, /* as if it had closed its end */
        {0, 2, -EPIPE},
        {sizeof(ready) + 1, 2, -EMSGSIZE},
    };
    static char bytes[sizeof(ready) + 1];
    memcpy(bytes, &ready, n);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ctl_message got;
        int fds[FDPASS_FDS_MAX];
        size_t nfds = 77;
        for (size_t k = 0; k < cases[i].nfds; k++)
            fds[k] = ends[0];
        cr_assert_eq(fdpass_send(ends[0], bytes, cases[i].n, fds, cases[i].nfds), 0);
        cr_expect_eq(ctl_receive_all(ends[1], &got, fds, &nfds), cases[i].result, "case %zu", i);
        cr_expect_eq(nfds, cases[i].nfds, "case %zu", i);
        fdpass_close(fds, nfds);
    }
    struct ctl_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 77;
    cr_expect_eq(ctl_receive_all(ends[1], &got, fds, &nfds), -EAGAIN);
    cr_expect_eq(nfds, 0);
}

/* Takes the message with a text off the other end, and reads it. */
static int read_text(size_t max, struct buf *out)
{
    struct ctl_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    cr_assert_eq(ctl_receive(ends[1], &got, fds, &nfds), 0);
    cr_assert_eq(nfds, 1);
    cr_assert_eq(got.u.tell.id, 7);
    int r = ctl_read_text(fds[0], max, out);
    fdpass_close(fds, nfds);
    return r;
}

Test(ctl, texts)
{
    static char text[CTL_TELL_MAX + 1];
    struct ctl_message message = {.u.tell.id = 7};
    struct buf out = {0};
    memset(text, 'x', sizeof(text));
    for (size_t n = 0; n <= sizeof(text); n += n == 0 ? 1 : n == 1 ? CTL_TELL_MAX - 1 : 1) {
        cr_assert_eq(ctl_send_text(ends[0], CTL_TELL, &message, (struct span){text, n}), 0);
        int r = read_text(CTL_TELL_MAX, &out);
        cr_expect_eq(r, n <= CTL_TELL_MAX ? 0 : -EPROTO, "%zu bytes: %d", n, r);
        cr_expect_eq(buf_len(&out), n <= CTL_TELL_MAX ? n : 0);
        cr_expect(n == 0 || n > CTL_TELL_MAX || memcmp(buf_data(&out), text, n) == 0);
        buf_deinit(&out);
    }
}

/* What its sender could still change, or make a reader wait, is no text. */
Test(ctl, texts_of_strangers)
{
    static const int seals[] = {0, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_SHRINK,
        F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE};
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LEN(seals); i++) {
        int fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        cr_assert_eq(write(fd, "{}", 2), 2);
        cr_assert(seals[i] == 0 || fcntl(fd, F_ADD_SEALS, seals[i]) == 0);
        cr_expect_eq(ctl_read_text(fd, 100, &out), -EPROTO, "seals %x", (unsigned)seals[i]);
        close(fd);
    }
    int pipe_ends[2];
    cr_assert_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    cr_expect_eq(ctl_read_text(pipe_ends[0], 100, &out), -EPROTO);
    fdpass_close(pipe_ends, 2);
    int path = open("/", O_PATH | O_CLOEXEC);
    cr_expect_eq(ctl_read_text(path, 100, &out), -EPROTO);
    close(path);
    cr_expect_eq(ctl_read_text(ends[0], 100, &out), -EPROTO);
    cr_expect_eq(buf_len(&out), 0);
    buf_deinit(&out);
}
