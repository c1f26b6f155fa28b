#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/handover/message.h"
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

TestSuite(handover, .init = set_up, .fini = tear_down);

/* `n` times the same descriptor, which the kernel makes different ones of. */
static int fill(int *fds, size_t n)
{
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_geq(file, 0);
    for (size_t i = 0; i < n; i++)
        fds[i] = file;
    return file;
}

/* A message of that type as handover_send() makes it, taken off the socket again. */
static struct handover_message message_of(enum handover_type type, uint32_t count)
{
    struct handover_message message = {.count = count};
    struct handover_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    cr_assert_eq(handover_send(ends[0], type, &message, NULL, 0), 0);
    cr_assert_eq(fdpass_receive(ends[1], &got, sizeof(got), fds, &nfds), (ssize_t)sizeof(got));
    return got;
}

/* Sends these bytes with that many descriptors, and receives them as a message. */
static int receive(const void *bytes, size_t n, size_t nfds, struct handover_message *ret_message)
{
    int sent[FDPASS_FDS_MAX];
    int fds[FDPASS_FDS_MAX];
    int file = fill(sent, nfds);
    cr_assert_eq(fdpass_send(ends[0], bytes, n, sent, nfds), 0);
    close(file);
    size_t count = open_count();
    size_t got = 77;
    int r = handover_receive(ends[1], ret_message, fds, &got);
    if (r == 0) {
        cr_assert_eq(got, nfds);
        for (size_t i = 0; i < got; i++)
            cr_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        fdpass_close(fds, got);
    } else {
        cr_assert_eq(got, (size_t)77, "outputs are untouched on failure");
    }
    cr_assert_eq(open_count(), count);
    return r;
}

Test(handover, a_batch_arrives_as_it_was_sent)
{
    static const uint32_t counts[] = {0, 1, 7, HANDOVER_BATCH_MAX};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        int sent[FDPASS_FDS_MAX];
        int fds[FDPASS_FDS_MAX];
        size_t nfds;
        struct handover_message got;
        struct handover_message message = {.batch = UINT32_MAX, .count = counts[i]};
        for (size_t seat = 0; seat < SHARE_SEATS; seat++)
            message.heard.of[seat] = (struct position){.incarnation = seat, .seq = UINT64_MAX};
        int file = fill(sent, counts[i] + 1);
        cr_assert_eq(handover_send(ends[0], HANDOVER_BATCH, &message, sent, counts[i] + 1), 0);
        close(file);
        cr_assert_eq(handover_receive(ends[1], &got, fds, &nfds), 0);
        cr_assert_eq(nfds, counts[i] + 1);
        fdpass_close(fds, nfds);
        cr_assert_eq(got.type, HANDOVER_BATCH);
        cr_assert_eq(got.batch, UINT32_MAX);
        cr_assert_eq(got.count, counts[i]);
        cr_assert_eq(memcmp(&got.heard, &message.heard, sizeof(got.heard)), 0);
    }
}

Test(handover, which_were_taken)
{
    struct handover_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    struct handover_message message = {
        .batch = 3, .count = HANDOVER_BATCH_MAX, .flags = HANDOVER_FULL};
    cr_assert_geq(8 * sizeof(message.taken), (size_t)HANDOVER_BATCH_MAX);
    message.taken[0] = 0x81;
    message.taken[sizeof(message.taken) - 1] = 0x08;
    cr_assert_eq(handover_send(ends[0], HANDOVER_TAKEN, &message, NULL, 0), 0);
    cr_assert_eq(handover_receive(ends[1], &got, fds, &nfds), 0);
    cr_assert_eq(nfds, 0);
    cr_assert(got.flags == HANDOVER_FULL && got.batch == 3 && got.count == HANDOVER_BATCH_MAX);
    cr_assert_eq(memcmp(got.taken, message.taken, sizeof(got.taken)), 0);
}

/* One bit is enough, wherever it is. */
Test(handover, whether_any_was_taken)
{
    uint8_t taken[HANDOVER_BITS] = {0};
    cr_expect_not(handover_takes_any(taken));
    for (size_t i = 0; i < HANDOVER_BATCH_MAX; i++) {
        taken[i / 8] = (uint8_t)(1 << i % 8);
        cr_expect(handover_takes_any(taken), "%zu", i);
        taken[i / 8] = 0;
    }
}

Test(handover, the_number_of_descriptors_is_checked)
{
    static const struct {
        enum handover_type type;
        uint32_t count;
        size_t fds;
        int result;
    } cases[] = {
        {HANDOVER_HELLO, 0, 0, 0},
        {HANDOVER_HELLO, 0, 1, -EPROTO},
        {HANDOVER_YOURS, 3, 0, 0},
        {HANDOVER_YOURS, 3, 3, -EPROTO},
        {HANDOVER_YOURS, HANDOVER_BATCH_MAX + 1, 0, -EPROTO},
        {HANDOVER_HEARD, 0, 0, 0},
        {HANDOVER_HEARD, 0, 1, -EPROTO},
        {HANDOVER_TAKEN, 5, 0, 0},
        {HANDOVER_TAKEN, 5, 5, -EPROTO},
        {HANDOVER_TAKEN, HANDOVER_BATCH_MAX + 1, 0, -EPROTO},
        {HANDOVER_TAKEN, UINT32_MAX, 0, -EPROTO},
        {HANDOVER_BATCH, 0, 0, -EPROTO},
        {HANDOVER_BATCH, 0, 1, 0},
        {HANDOVER_BATCH, 0, 2, -EPROTO},
        {HANDOVER_BATCH, 1, 1, -EPROTO},
        {HANDOVER_BATCH, 1, 2, 0},
        {HANDOVER_BATCH, 1, 3, -EPROTO},
        {HANDOVER_BATCH, HANDOVER_BATCH_MAX, HANDOVER_BATCH_MAX, -EPROTO},
        {HANDOVER_BATCH, HANDOVER_BATCH_MAX, HANDOVER_BATCH_MAX + 1, 0},
        {HANDOVER_BATCH, HANDOVER_BATCH_MAX + 1, FDPASS_FDS_MAX, -EPROTO},
        {HANDOVER_BATCH, UINT32_MAX, 0, -EPROTO},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct handover_message message = message_of(cases[i].type, cases[i].count);
        struct handover_message got;
        cr_expect_eq(
            receive(&message, sizeof(message), cases[i].fds, &got), cases[i].result, "case %zu", i);
    }
}

Test(handover, every_other_length_is_refused)
{
    char bytes[sizeof(struct handover_message) + 1] = {0};
    struct handover_message message = message_of(HANDOVER_BATCH, 2);
    struct handover_message got;
    memcpy(bytes, &message, sizeof(message));
    for (size_t n = 1; n <= sizeof(message); n++)
        cr_assert_eq(
            receive(bytes, n, 3, &got), n == sizeof(message) ? 0 : -EPROTO, "%zu bytes", n);
    cr_assert_lt(receive(bytes, sizeof(bytes), 3, &got), 0, "longer than any message");
}

Test(handover, other_versions_types_and_programs_are_refused)
{
    const struct handover_message right = message_of(HANDOVER_HELLO, 0);
    struct handover_message got;
    struct handover_message wrong = right;
    cr_expect_eq(receive(&wrong, sizeof(wrong), 0, &got), 0);
    wrong.magic ^= 1;
    cr_expect_eq(receive(&wrong, sizeof(wrong), 2, &got), -EPROTO);
    wrong = right;
    wrong.version++;
    cr_expect_eq(receive(&wrong, sizeof(wrong), 2, &got), -EPROTO);
    wrong = right;
    for (uint32_t type = 0; type <= UINT16_MAX; type += type < 8 ? 1 : 4093) {
        wrong.type = (uint16_t)type;
        bool known = type == HANDOVER_HELLO || (type >= HANDOVER_HEARD && type <= HANDOVER_YOURS);
        cr_expect_eq(receive(&wrong, sizeof(wrong), 0, &got), known ? 0 : -EPROTO, "%u", type);
    }
}

/* At the descriptor limit the kernel drops what does not fit; the batch is known all the same. */
Test(handover, at_the_descriptor_limit)
{
    enum { COUNT = 50 };
    static const rlim_t rooms[] = {0, 1, COUNT / 2, COUNT};
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
        struct rlimit before;
        int sent[FDPASS_FDS_MAX];
        int fds[FDPASS_FDS_MAX];
        size_t nfds = 77;
        struct handover_message got;
        struct handover_message message = {.batch = 9, .count = COUNT};
        int file = fill(sent, COUNT + 1);
        cr_assert_eq(handover_send(ends[0], HANDOVER_BATCH, &message, sent, COUNT + 1), 0);
        size_t count = open_count();
        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
        struct rlimit low = {(rlim_t)file + 1 + rooms[i], before.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
        int r = handover_receive(ends[1], &got, fds, &nfds);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        cr_assert_eq(r, -EMFILE);
        cr_assert_eq(nfds, (size_t)77);
        cr_assert(got.type == HANDOVER_BATCH && got.batch == 9 && got.count == COUNT);
        cr_assert_eq(open_count(), count, "those that did come are closed");
        close(file);
    }
}

Test(handover, nothing_there_and_nobody_there)
{
    struct handover_message got;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    cr_expect_eq(handover_receive(ends[1], &got, fds, &nfds), -EAGAIN);
    shutdown(ends[0], SHUT_RDWR);
    cr_expect_eq(handover_receive(ends[1], &got, fds, &nfds), -EPIPE);
    struct handover_message message = {0};
    cr_expect_eq(handover_send(ends[1], HANDOVER_HELLO, &message, NULL, 0), -EPIPE);
}

Test(handover, states)
{
    const struct {
        struct span bytes;
        const char *states[4]; /* as they come; then none */
    } cases[] = {
        {{NULL, 0}, {NULL}},
        {SPAN("\3\0\0\0abc"), {"abc"}},
        {SPAN("\3\0\0\0abc\0\0\0\0\1\0\0\0d"), {"abc", "", "d"}},
        {SPAN("\0\0\0\0\0\0\0\0\2\0\0\0xy"), {"", "", "xy"}},
        {SPAN("\1\0\0\0a\1\0\0"), {"a"}},
        {SPAN("\1\0\0"), {NULL}},
        {SPAN("\4\0\0\0abc"), {NULL}},
        /* What follows one that is cut short is not taken for another. */
        {SPAN("\11\0\0\0\1\0\0\0a"), {NULL}},
        {SPAN("\1\0\0\0a\377\377\377\377\1\0\0\0b"), {"a"}},
        {SPAN("\0\0\0\200\1\0\0\0b"), {NULL}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span bytes = cases[i].bytes;
        char *copy = malloc(MAX(bytes.n, (size_t)1)); /* so that a read past its end is seen */
        size_t at = 0;
        size_t k = 0;
        if (bytes.n > 0)
            memcpy(copy, bytes.p, bytes.n);
        for (; k < ARRAY_LEN(cases[i].states) && cases[i].states[k] != NULL; k++) {
            const char *wanted = cases[i].states[k];
            struct span state = handover_next_state(copy, bytes.n, &at);
            cr_expect_eq(state.n, strlen(wanted), "case %zu, state %zu", i, k);
            cr_expect_eq(memcmp(state.p, wanted, strlen(wanted)), 0, "case %zu, state %zu", i, k);
        }
        for (; k < 6; k++)
            cr_expect_eq(handover_next_state(copy, bytes.n, &at).n, 0, "case %zu", i);
        cr_expect_eq(at, bytes.n);
        free(copy);
    }
}
