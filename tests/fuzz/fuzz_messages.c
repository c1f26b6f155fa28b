/*
 * Messages with descriptors, as a shard and its supervisor (ctl) and two shards (handover) take
 * them. The first byte says which of the two (FUZZ_CTL), and whether the message gets the magic
 * number, the version and the length of this program's own (FUZZ_STAMPED), so that the inputs of
 * the corpus stay what they are when a version is counted up; the second byte says how many
 * descriptors come along; the rest is the message. The whole input is also read as the states of a
 * batch.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/ipc/control.h"
#include "frontd/shard/handover/message.h"

enum { FUZZ_CTL = 1, FUZZ_STAMPED = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every descriptor from there on is free. */
static int first_free(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    close(fd);
    return fd;
}

static void check_handover(const struct handover_message *message, size_t nfds)
{
    CHECK(message->type >= HANDOVER_HELLO && message->type <= HANDOVER_TAKEN);
    CHECK(message->count <= HANDOVER_BATCH_MAX);
    CHECK(nfds == (message->type == HANDOVER_BATCH ? message->count + 1 : 0));
}

/* What is returned of a message of another version has its type only. */
static void check_ctl(const struct ctl_message *message, size_t nfds)
{
    static const struct ctl_message none;
    CHECK(message->length <= sizeof(*message));
    if (ctl_is_foreign(message)) {
        CHECK((message->type == CTL_LEAVE || message->type == CTL_DRAIN) && nfds == 0);
        CHECK(memcmp(&message->u, &none.u, sizeof(none.u)) == 0);
    } else if (message->type == CTL_LISTEN) {
        CHECK(message->u.listen.count <= CTL_LISTEN_MAX && nfds == message->u.listen.count);
    }
}

/* What a message of this program begins with goes over the first of the `n` bytes at `bytes`; what
 * that is, sending one says. */
static void stamp(int sock, bool is_ctl, uint8_t *bytes, size_t n)
{
    struct ctl_message ctl = {0};
    struct handover_message handover = {0};
    if (is_ctl) {
        CHECK(ctl_send(sock, CTL_OPEN, &ctl, NULL, 0) == 0);
        ctl.length = (uint32_t)n;
        memcpy(bytes + offsetof(struct ctl_message, length), &ctl.length, sizeof(ctl.length));
        memcpy(bytes, &ctl, offsetof(struct ctl_message, type));
    } else {
        CHECK(handover_send(sock, HANDOVER_HELLO, &handover, NULL, 0) == 0);
        memcpy(bytes, &handover, offsetof(struct handover_message, type));
    }
}

static void check_result(int r, bool is_ctl, bool stamped)
{
    if (r == -ENOTSUP)
        CHECK(is_ctl && !stamped); /* only another version's is not understood */
    else
        CHECK(r == 0 || r == -EPROTO || r == -EMSGSIZE || r == -EPIPE);
}

static void receive(const uint8_t *data, size_t size)
{
    int ends[2];
    int sent[FDPASS_FDS_MAX];
    int fds[FDPASS_FDS_MAX];
    uint8_t sample[sizeof(struct ctl_message) + sizeof(struct handover_message)];
    size_t nfds = 0;
    struct ctl_message ctl;
    struct handover_message handover;
    bool is_ctl = data[0] & FUZZ_CTL;
    size_t nsent = data[1] % (FDPASS_FDS_MAX + 1);
    size_t n = size - 2;
    bool stamped = data[0] & FUZZ_STAMPED && n >= offsetof(struct ctl_message, u);
    uint8_t *message = malloc(n);
    CHECK(message);
    memcpy(message, data + 2, n);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    if (stamped) {
        stamp(ends[0], is_ctl, message, n);
        CHECK(recv(ends[1], sample, sizeof(sample), 0) > 0);
    }
    for (size_t i = 0; i < nsent; i++)
        sent[i] = ends[0];
    CHECK(fdpass_send(ends[0], message, n, sent, nsent) == 0);
    free(message);
    int r = is_ctl ? ctl_receive(ends[1], &ctl, fds, &nfds)
                   : handover_receive(ends[1], &handover, fds, &nfds);
    if (r == 0) {
        CHECK(nfds == nsent);
        for (size_t i = 0; i < nfds; i++)
            CHECK(fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
        if (is_ctl)
            check_ctl(&ctl, nfds);
        else
            check_handover(&handover, nfds);
        fdpass_close(fds, nfds);
    }
    check_result(r, is_ctl, stamped);
    fdpass_close(ends, 2);
}

static void read_states(const char *states, size_t size)
{
    size_t at = 0;
    size_t used = 0;
    while (at < size) {
        size_t before = at;
        struct span state = handover_next_state(states, size, &at);
        CHECK(at > before && at <= size);
        CHECK(state.n == 0 || (state.p == states + before + 4 && at == before + 4 + state.n));
        used += state.n;
    }
    CHECK(used <= size && handover_next_state(states, size, &at).n == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int free_before = first_free();
    if (size > 2 && size <= 65536)
        receive(data, size);
    read_states((const char *)data, size);
    CHECK(first_free() == free_before); /* the lowest are given first: none is lost */
    return 0;
}
