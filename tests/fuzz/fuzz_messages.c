/*
 * Messages with descriptors, as a shard and its supervisor (ctl) and two shards (handover) take
 * them: the first byte says which of the two, the second how many descriptors come along, the rest
 * is the message. The whole input is also read as the states of a batch.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/ctl.h"
#include "frontd/shard/handover.h"

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

static void check_ctl(const struct ctl_message *message, size_t nfds)
{
    CHECK(message->length <= sizeof(*message));
    if (message->type == CTL_LISTEN)
        CHECK(message->u.listen.count <= CTL_LISTEN_MAX && nfds == message->u.listen.count);
}

static void receive(const uint8_t *data, size_t size)
{
    int ends[2];
    int sent[FDPASS_FDS_MAX];
    int fds[FDPASS_FDS_MAX];
    size_t nfds = 0;
    struct ctl_message ctl;
    struct handover_message handover;
    bool is_ctl = data[0] & 1;
    size_t nsent = data[1] % (FDPASS_FDS_MAX + 1);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    for (size_t i = 0; i < nsent; i++)
        sent[i] = ends[0];
    CHECK(fdpass_send(ends[0], data + 2, size - 2, sent, nsent) == 0);
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
    CHECK(r == 0 || r == -EPROTO || r == -EMSGSIZE || r == -EPIPE);
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
