/* With keys: each batch is acknowledged twice. The new side is played by the test. */

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/handover/message.h"
#include "frontd/shard/handover/sender.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/sealed.h"
#include "tests/unit/support/shardlet.h"

enum { SEAT = 4, NEW_SEAT = 7, CLIENTS = 3, DRAIN_MS = 3600 * 1000 };

static struct shardlet shardlet;
static size_t open_before;
static int peers[CLIENTS];
static struct sealed_peer sealed[CLIENTS];
static int sender_end; /* the old side's end of the socket, which is not this test's */

/* Those that are not on their way: they live, or wait to be offered again. */
static size_t clients_here(void)
{
    size_t n = 0;
    list_for_each (node, &shardlet.clients)
        n++;
    list_for_each (node, &shardlet.ctx.idle)
        n++;
    return n;
}

static void set_up(void)
{
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    open_before = open_count();
    for (size_t i = 0; i < CLIENTS; i++)
        shardlet_client(&shardlet, "lines", &peers[i]);
    shardlet_turn(&shardlet);
}

static void tear_down(void)
{
    sender_shut(shardlet.ctx.sender);
    for (size_t i = 0; i < CLIENTS; i++)
        close(peers[i]);
    shardlet_turn(&shardlet);
    cr_expect_eq(clients_here(), 0);
    cr_expect_eq(open_count(), open_before);
    cr_expect_eq(sealed_count(), 0u);
    shardlet_deinit(&shardlet);
    sealed_forget();
}

TestSuite(sender_settle, .init = set_up, .fini = tear_down, .timeout = 60);

static void turn(void)
{
    shardlet_turn(&shardlet);
    sender_turn(shardlet.ctx.sender);
}

/* The next batch; that the old side tells how far it is counts for nothing. */
static void receive_batch(int sock, struct handover_message *ret_batch, int *fds, size_t *ret_nfds)
{
    do
        cr_assert_eq(handover_receive(sock, ret_batch, fds, ret_nfds), 0);
    while (ret_batch->type == HANDOVER_HEARD);
    cr_assert_eq(ret_batch->type, HANDOVER_BATCH);
}

/* A new shard that says so. Returns its end of the socket. */
static int greeting(uint8_t flags)
{
    struct handover_message hello = {.flags = flags};
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(sender_add(shardlet.ctx.sender, NEW_SEAT, pair[0]), 0);
    cr_assert_eq(handover_send(pair[1], HANDOVER_HELLO, &hello, NULL, 0), 0);
    sender_end = pair[0];
    return pair[1];
}

/* The new side: all clients are offered to it. Returns its end of the socket, and what came. */
static int offered(struct handover_message *ret_batch, int *fds)
{
    int sock = greeting(HANDOVER_TWICE);
    size_t nfds;
    sender_start(shardlet.ctx.sender, &shardlet.clients, DRAIN_MS, true);
    turn();
    receive_batch(sock, ret_batch, fds, &nfds);
    cr_assert_eq(ret_batch->count, CLIENTS);
    cr_assert_eq(clients_here(), 0);
    cr_assert(sender_has_clients(shardlet.ctx.sender));
    return sock;
}

/* Says that all but the first are the new side's. */
static int take(int sock, const struct handover_message *batch)
{
    struct handover_message taken = {.batch = batch->batch, .count = CLIENTS, .taken = {6}};
    return handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0);
}

static bool is_open(int peer)
{
    char byte;
    return recv(peer, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

/* The clients from the n-th on have keys. */
static void give_keys(size_t n)
{
    size_t i = 0;
    list_for_each (node, &shardlet.clients) {
        if (i++ >= n)
            container_of(node, struct client, node)->transport = sealed_new(&sealed[i - 1]);
    }
}

/* What a new shard is told, besides how far the old side is. -errno: nothing. */
static int next_type(int sock, struct handover_message *ret_message)
{
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    int r;
    do
        r = handover_receive(sock, ret_message, fds, &nfds);
    while (r == 0 && ret_message->type == HANDOVER_HEARD);
    if (r == 0)
        fdpass_close(fds, nfds);
    return r == 0 ? ret_message->type : r;
}

static bool is_empty(int fd)
{
    char bytes[4096];
    size_t set = 0;
    ssize_t n;
    size_t size = 0;
    while ((n = pread(fd, bytes, sizeof(bytes), (off_t)size)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            set += bytes[i] != 0;
        size += (size_t)n;
    }
    cr_assert_gt(size, 100);
    return set == 0;
}

/* One of them has keys: all of the batch wait; those that were not taken do not. */
Test(sender_settle, says_yours)
{
    struct handover_message batch, yours;
    int fds[FDPASS_FDS_MAX];
    give_keys(CLIENTS - 1);
    int sock = offered(&batch, fds);
    cr_expect_eq(batch.flags, HANDOVER_TWICE);
    cr_expect_not(is_empty(fds[0]));
    cr_assert_eq(take(sock, &batch), 0);
    turn();
    cr_expect_eq(next_type(sock, &yours), HANDOVER_YOURS);
    cr_expect(yours.batch == batch.batch && yours.count == CLIENTS);
    cr_expect_eq(sealed_count(), 0u, "the keys are wiped");
    cr_expect(is_empty(fds[0]), "and so are the states");
    cr_expect(is_open(peers[0]));
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
}

/* Without keys it is one message less. */
Test(sender_settle, says_nothing_more_without_keys)
{
    struct handover_message batch, message;
    int fds[FDPASS_FDS_MAX];
    int sock = offered(&batch, fds);
    cr_expect_eq(batch.flags, 0);
    cr_assert_eq(take(sock, &batch), 0);
    turn();
    cr_expect_neq(next_type(sock, &message), HANDOVER_YOURS);
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
}

/* Nor where none was taken: there is nothing to wait for. */
Test(sender_settle, says_nothing_more_where_none_was_taken)
{
    struct handover_message batch, message;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = offered(&batch, fds);
    struct handover_message taken = {
        .batch = batch.batch, .count = CLIENTS, .flags = HANDOVER_FULL};
    cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
    turn();
    cr_expect_eq(next_type(sock, &message), -EAGAIN);
    cr_expect(clients_here() == CLIENTS && sealed_count() == CLIENTS);
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
}

/* The new side is gone when YOURS is said, whatever it had taken: all stay and live on. */
Test(sender_settle, the_new_side_is_gone_before_yours)
{
    for (int unread = 0; unread < 2; unread++) { /* EPIPE, ECONNRESET */
        struct handover_message batch;
        int fds[FDPASS_FDS_MAX];
        if (unread == 0)
            give_keys(0);
        int sock = offered(&batch, fds);
        cr_assert_eq(take(sock, &batch), 0);
        if (unread)
            cr_assert_eq(send(sender_end, "x", 1, 0), 1);
        fdpass_close(fds, CLIENTS + 1);
        close(sock);
        turn();
        cr_expect(clients_here() == CLIENTS && sealed_count() == CLIENTS);
        sender_shut(shardlet.ctx.sender);
        shardlet_turn(&shardlet);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        char record[64];
        size_t n = sealed_wrap(&sealed[i], (struct span){"{}\n", 3}, record);
        cr_assert_eq(send(peers[i], record, n, MSG_NOSIGNAL), (ssize_t)n);
        shardlet_turn(&shardlet);
        cr_expect_gt(recv(peers[i], record, sizeof(record), 0), 0, "client %zu", i);
    }
}

/* The old side breaks off where TAKEN lies there: YOURS is still said. */
Test(sender_settle, breaks_off_before_it_has_read_the_answer)
{
    struct handover_message batch, yours;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = offered(&batch, fds);
    cr_assert_eq(take(sock, &batch), 0);
    sender_shut(shardlet.ctx.sender);
    cr_expect_eq(sealed_count(), 1u);
    cr_expect_eq(next_type(sock, &yours), HANDOVER_YOURS);
    fdpass_close(fds, CLIENTS + 1);
    shardlet_turn(&shardlet);
    cr_expect_eq(next_type(sock, &yours), -EPIPE);
    close(sock);
}

/* Fills the socket as far as the old side can. Returns how many messages lie there. */
static unsigned fill_socket(void)
{
    unsigned n = 0;
    char junk[1000] = {0};
    while (send(sender_end, junk, sizeof(junk), 0) > 0)
        n++;
    cr_assert_eq(errno, EAGAIN);
    return n;
}

static void drain_socket(int sock, unsigned n)
{
    char junk[2000];
    while (n-- > 0)
        cr_assert_eq(recv(sock, junk, sizeof(junk), 0), 1000);
}

/* Nothing happens to the batch until YOURS is out; no other one goes. */
Test(sender_settle, has_no_room_for_yours)
{
    struct handover_message batch, yours;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = offered(&batch, fds);
    unsigned n = fill_socket();
    cr_assert_eq(take(sock, &batch), 0);
    for (int i = 0; i < 3; i++)
        turn();
    cr_expect_eq(sealed_count(), CLIENTS);
    cr_expect_eq(clients_here(), 0);
    cr_expect(sender_has_clients(shardlet.ctx.sender));
    drain_socket(sock, n);
    turn();
    cr_expect_eq(next_type(sock, &yours), HANDOVER_YOURS);
    cr_expect(yours.batch == batch.batch && sealed_count() == 1);
    turn(); /* the one that was not taken is kept: no batch follows */
    cr_expect_eq(next_type(sock, &yours), -EAGAIN);
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
}

/* Where the old side breaks off meanwhile the end of the socket says it: they are given. */
Test(sender_settle, breaks_off_without_room_for_yours)
{
    struct handover_message batch, yours;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = offered(&batch, fds);
    unsigned n = fill_socket();
    cr_assert_eq(take(sock, &batch), 0);
    turn();
    cr_assert_eq(sealed_count(), CLIENTS);
    sender_shut(shardlet.ctx.sender);
    cr_expect_eq(sealed_count(), 1u);
    shardlet_turn(&shardlet);
    drain_socket(sock, n);
    cr_expect_eq(next_type(sock, &yours), -EPIPE);
    cr_expect(is_open(peers[1]));
    fdpass_close(fds, CLIENTS + 1);
    cr_expect_not(is_open(peers[1]));
    close(sock);
}

/* And where the new side ends meanwhile, they are taken back. */
Test(sender_settle, the_new_side_ends_without_room_for_yours)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = offered(&batch, fds);
    fill_socket();
    cr_assert_eq(take(sock, &batch), 0);
    turn();
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
    turn();
    cr_expect(clients_here() == CLIENTS && sealed_count() == CLIENTS);
}

/* Who breaks the order of messages may have what it has: with keys none of it is used here. */
Test(sender_settle, the_new_side_breaks_the_order)
{
    for (int keys = 1; keys >= 0; keys--) {
        struct handover_message batch, message;
        int fds[FDPASS_FDS_MAX];
        if (keys)
            give_keys(1);
        int sock = offered(&batch, fds);
        struct handover_message taken = {.batch = batch.batch, .count = CLIENTS - 1};
        cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
        turn();
        cr_expect_eq(clients_here(), keys ? 0 : CLIENTS, "%d", keys);
        cr_expect_eq(sealed_count(), 0u);
        cr_expect_eq(next_type(sock, &message), -EPIPE);
        fdpass_close(fds, CLIENTS + 1);
        close(sock);
        sender_shut(shardlet.ctx.sender);
        for (size_t i = 0; keys && i < CLIENTS; i++) {
            close(peers[i]);
            shardlet_client(&shardlet, "lines", &peers[i]);
        }
        shardlet_turn(&shardlet);
    }
}

/* The same where it is found out when the old side breaks off. */
Test(sender_settle, breaks_off_where_the_order_is_broken)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    give_keys(1);
    int sock = offered(&batch, fds);
    cr_assert_eq(send(sock, "x", 1, 0), 1);
    cr_assert_eq(take(sock, &batch), 0);
    sender_shut(shardlet.ctx.sender);
    cr_expect_eq(clients_here(), 0);
    cr_expect_eq(sealed_count(), 0u);
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
}

/* One that does not know YOURS gets the others; those with keys stay, and are closed in time. */
Test(sender_settle, an_older_new_side)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    give_keys(1);
    int sock = greeting(0);
    sender_start(shardlet.ctx.sender, &shardlet.clients, 0, true);
    turn();
    receive_batch(sock, &batch, fds, &nfds);
    cr_expect_eq(batch.count, 1u);
    cr_expect_eq(batch.flags, 0);
    cr_expect_eq(sealed_count(), CLIENTS - 1u);
    struct handover_message taken = {.batch = batch.batch, .count = 1, .taken = {1}};
    cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
    for (int i = 0; i < 10000 && sealed_count() > 0; i++) {
        turn();
        usleep(1000);
    }
    cr_expect_eq(sealed_count(), 0u);
    cr_expect(is_open(peers[0]) && !is_open(peers[1]) && !is_open(peers[2]));
    fdpass_close(fds, nfds);
    close(sock);
}
