#include <criterion/criterion.h>
#include <errno.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontd/ipc/shm_clients.h"
#include "tests/unit/support/old_side.h"

TestSuite(handover_sender, .init = old_side_init, .fini = old_side_deinit, .timeout = 60);

Test(handover_sender, an_answer_that_has_come_counts_when_this_side_breaks_off)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    int sock = old_side_offer(0, &batch, fds);
    cr_assert_eq(old_side_take(sock, &batch), 0);
    sender_shut(old.shardlet.ctx.sender); /* before it was read */
    cr_expect_eq(old_side_clients(), 1, "the others are somebody else's");
    cr_expect_not(sender_has_clients(old.shardlet.ctx.sender));
    shardlet_turn(&old.shardlet);
    for (size_t i = 0; i < CLIENTS; i++)
        cr_expect(old_side_is_open(old.peers[i]), "client %zu", i);
    fdpass_close(fds, CLIENTS + 1);
    cr_expect(old_side_is_open(old.peers[0]) && !old_side_is_open(old.peers[1]) &&
              !old_side_is_open(old.peers[2]));
    close(sock);
}

Test(handover_sender, an_answer_that_comes_later_cannot_be_given)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    int sock = old_side_offer(0, &batch, fds);
    sender_shut(old.shardlet.ctx.sender);
    cr_expect_eq(old_side_take(sock, &batch), -EPIPE);
    cr_expect_eq(old_side_clients(), CLIENTS);
    fdpass_close(fds, CLIENTS + 1);
    shardlet_turn(&old.shardlet);
    for (size_t i = 0; i < CLIENTS; i++)
        cr_expect(old_side_is_open(old.peers[i]), "client %zu", i);
    close(sock);
}

static void give_much(struct client *client, size_t n)
{
    char *room = buf_room(&client->out, n);
    cr_assert_not_null(room);
    memset(room, 'x', n);
    buf_added(&client->out, n);
}

/* The next batch has so many clients; they are taken. */
static void expect_batch(int sock, uint32_t count)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    old_side_turn();
    old_side_receive_batch(sock, &batch, fds, &nfds);
    cr_expect_eq(batch.count, count, "%u", batch.count);
    fdpass_close(fds, nfds);
    struct handover_message taken = {.batch = batch.batch, .count = batch.count, .taken = {7}};
    cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
}

/* What waits for a client is in memory twice only for as many as are on their way. */
Test(handover_sender, a_batch_has_so_many_bytes_at_most)
{
    enum { SIZE = 3 << 20 };
    struct handover_message hello = {0};
    int pair[2];
    size_t i = 0;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(sender_add(old.shardlet.ctx.sender, NEW_SEAT, pair[0]), 0);
    cr_assert_eq(handover_send(pair[1], HANDOVER_HELLO, &hello, NULL, 0), 0);
    list_for_each (node, &old.shardlet.clients)
        give_much(container_of(node, struct client, node), ++i < CLIENTS ? SIZE : 100);
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, DRAIN_MS, true);
    expect_batch(pair[1], 1);
    expect_batch(pair[1], CLIENTS - 1);
    old_side_turn();
    cr_expect_eq(old_side_clients(), 0);
    cr_expect_not(sender_has_clients(old.shardlet.ctx.sender));
    close(pair[1]);
}

/* As at a supervisor's start, which connects all shards anew. */
Test(handover_sender, an_answer_that_has_come_counts_when_there_is_another_socket)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    int pair[2];
    int sock = old_side_offer(0, &batch, fds);
    cr_assert_eq(old_side_take(sock, &batch), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(sender_add(old.shardlet.ctx.sender, NEW_SEAT, pair[0]), 0);
    cr_expect_eq(old_side_clients(), 1);
    shardlet_turn(&old.shardlet);
    fdpass_close(fds, CLIENTS + 1);
    cr_expect(old_side_is_open(old.peers[0]) && !old_side_is_open(old.peers[1]) &&
              !old_side_is_open(old.peers[2]));
    close(sock);
    close(pair[1]);
}

/* There is no target to wait for: they end. */
Test(handover_sender, without_targets)
{
    enum { LOOKS = 10000 };
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, 0, false);
    old_side_turn();
    cr_expect(sender_has_clients(old.shardlet.ctx.sender));
    for (int i = 0;
         i < LOOKS && (old_side_clients() > 0 || sender_has_clients(old.shardlet.ctx.sender));
         i++) {
        old_side_turn();
        usleep(1000);
    }
    cr_expect_eq(old_side_clients(), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        cr_expect_not(old_side_is_open(old.peers[i]), "client %zu", i);
}

enum { TARGETS = 3 };

/* New shards on the seats from NEW_SEAT on. Returns the other ends of their sockets. */
static void add_targets(int *ends)
{
    struct handover_message hello = {0};
    for (unsigned i = 0; i < TARGETS; i++) {
        int pair[2];
        cr_assert_eq(
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        cr_assert_eq(sender_add(old.shardlet.ctx.sender, NEW_SEAT + i, pair[0]), 0);
        cr_assert_eq(handover_send(pair[1], HANDOVER_HELLO, &hello, NULL, 0), 0);
        ends[i] = pair[1];
    }
}

/* What is there for a new shard by now, the number of clients; all are taken. */
static uint32_t take_all(int sock)
{
    struct handover_message message;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    uint32_t n = 0;
    while (handover_receive(sock, &message, fds, &nfds) == 0) {
        fdpass_close(fds, nfds);
        if (message.type != HANDOVER_BATCH)
            continue;
        struct handover_message taken = {.batch = message.batch, .count = message.count};
        memset(taken.taken, 0xff, sizeof(taken.taken));
        cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
        n += message.count;
    }
    return n;
}

static void close_all(const int *ends)
{
    fdpass_close(ends, TARGETS);
}

/* A target that has many more from elsewhere gets fewer. */
Test(handover_sender, the_shard_with_the_fewest_connections_gets_the_next)
{
    enum { MORE = 9, ALL = CLIENTS + MORE, UNEVEN = 1024 };
    static const unsigned loads[TARGETS] = {UNEVEN + 5, 0, UNEVEN + 4}; /* 9 and ALL: 7 for each */
    static const unsigned wanted[TARGETS] = {2, 7, 3};
    uint32_t got[TARGETS] = {0};
    int more[MORE];
    int ends[TARGETS];
    struct share *share = old.shardlet.ctx.share;
    for (size_t i = 0; i < MORE; i++)
        shardlet_client(&old.shardlet, "lines", &more[i]);
    shardlet_turn(&old.shardlet);
    for (unsigned i = 0; i < TARGETS; i++) {
        for (unsigned n = 0; n < loads[i]; n++)
            cr_assert(share_connection_add(share, NEW_SEAT + i, UINT64_MAX));
        cr_assert_eq(share_connections(share, NEW_SEAT + i), loads[i]);
    }
    add_targets(ends);
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, DRAIN_MS, true);
    old_side_turn();
    for (unsigned i = 0; i < TARGETS; i++) {
        got[i] = take_all(ends[i]);
        cr_expect_eq(got[i], wanted[i], "target %u: %u", i, got[i]);
    }
    old_side_turn();
    cr_expect_not(sender_has_clients(old.shardlet.ctx.sender));
    for (unsigned i = 0; i < TARGETS; i++) {
        for (unsigned n = 0; n < loads[i]; n++)
            share_connection_remove(share, NEW_SEAT + i);
    }
    close_all(ends);
    fdpass_close(more, MORE);
}

/* What each has got counts over all rounds. */
Test(handover_sender, all_get_as_many_in_the_end)
{
    enum { ROUNDS = 4, EACH = 4 };
    uint32_t got[TARGETS] = {0};
    int more[ROUNDS * EACH];
    int ends[TARGETS];
    add_targets(ends);
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, DRAIN_MS, true);
    for (size_t round = 0; round < ROUNDS; round++) {
        old_side_turn();
        for (unsigned i = 0; i < TARGETS; i++)
            got[i] += take_all(ends[i]);
        old_side_turn();
        for (size_t i = 0; i < EACH; i++)
            client_touch(shardlet_client(&old.shardlet, "lines", &more[round * EACH + i]));
    }
    old_side_turn();
    for (unsigned i = 0; i < TARGETS; i++)
        got[i] += take_all(ends[i]);
    old_side_turn();
    cr_expect_not(sender_has_clients(old.shardlet.ctx.sender));
    for (unsigned i = 0; i < TARGETS; i++)
        cr_expect(got[i] == 6 || got[i] == 7, "target %u: %u", i, got[i]);
    close_all(ends);
    fdpass_close(more, ROUNDS * EACH);
}

/* One of them is full with what its batch holds: the others get what is left. */
Test(handover_sender, where_one_batch_is_full_the_others_go_on)
{
    enum { SIZE = 5 << 20 };
    int ends[TARGETS];
    struct client *first = list_first(&old.shardlet.clients, struct client, node);
    give_much(first, SIZE);
    add_targets(ends);
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, DRAIN_MS, true);
    old_side_turn();
    cr_expect_eq(old_side_clients(), 0);
    for (unsigned i = 0; i < TARGETS; i++)
        cr_expect_eq(take_all(ends[i]), 1u, "target %u", i);
    old_side_turn();
    cr_expect_not(sender_has_clients(old.shardlet.ctx.sender));
    close_all(ends);
}

/* Puts more descriptors on their way than this process may. Returns the socket they lie in. */
static int crowd(void)
{
    enum { MOST = 100 };
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    static const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
    struct rlimit limit = {.rlim_cur = MOST, .rlim_max = MOST};
    int fds[MOST + 1];
    int pair[2];
    cr_assert_eq(syscall(SYS_capset, &header, none), 0, "who has capabilities is not refused");
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = old.peers[0];
    cr_assert_eq(fdpass_send(pair[0], "x", 1, fds, ARRAY_LEN(fds)), 0);
    close(pair[0]);
    return pair[1];
}

/* No target is left out for it, and none comes off worse afterwards. */
Test(handover_sender, too_many_descriptors_are_on_their_way)
{
    enum { LOOKS = 10000 };
    int ends[TARGETS];
    uint32_t got[TARGETS] = {0};
    uint32_t all = 0;
    add_targets(ends);
    int sock = crowd();
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, DRAIN_MS, true);
    old_side_turn();
    cr_expect_eq(old_side_clients(), CLIENTS);
    for (unsigned i = 0; i < TARGETS; i++)
        cr_expect_eq(take_all(ends[i]), 0u);
    close(sock);
    for (int look = 0; look < LOOKS && all < CLIENTS; look++) {
        usleep(1000);
        old_side_turn();
        all = 0;
        for (unsigned i = 0; i < TARGETS; i++)
            all += got[i] += take_all(ends[i]);
    }
    old_side_turn();
    cr_expect_not(sender_has_clients(old.shardlet.ctx.sender));
    for (unsigned i = 0; i < TARGETS; i++)
        cr_expect_eq(got[i], 1u, "target %u: %u", i, got[i]);
    close_all(ends);
}
