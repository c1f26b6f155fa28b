/* With keys: each batch is acknowledged twice. The new side is played by the test. */

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/old_side.h"
#include "tests/unit/support/sealed.h"

static struct sealed_peer sealed[CLIENTS];

static void tear_down(void)
{
    old_side_deinit();
    cr_expect_eq(sealed_count(), 0u);
    sealed_forget();
}

TestSuite(sender_settle, .init = old_side_init, .fini = tear_down, .timeout = 60);

/* The clients from the n-th on have keys. */
static void give_keys(size_t n)
{
    size_t i = 0;
    list_for_each (node, &old.shardlet.clients) {
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
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    cr_expect_eq(batch.flags, HANDOVER_TWICE);
    cr_expect_not(is_empty(fds[0]));
    cr_assert_eq(old_side_take(sock, &batch), 0);
    old_side_turn();
    cr_expect_eq(next_type(sock, &yours), HANDOVER_YOURS);
    cr_expect(yours.batch == batch.batch && yours.count == CLIENTS);
    cr_expect_eq(sealed_count(), 0u, "the keys are wiped");
    cr_expect(is_empty(fds[0]), "and so are the states");
    cr_expect(old_side_is_open(old.peers[0]));
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
}

/* Without keys it is one message less. */
Test(sender_settle, says_nothing_more_without_keys)
{
    struct handover_message batch, message;
    int fds[FDPASS_FDS_MAX];
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    cr_expect_eq(batch.flags, 0);
    cr_assert_eq(old_side_take(sock, &batch), 0);
    old_side_turn();
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
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    struct handover_message taken = {
        .batch = batch.batch, .count = CLIENTS, .flags = HANDOVER_FULL};
    cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
    old_side_turn();
    cr_expect_eq(next_type(sock, &message), -EAGAIN);
    cr_expect(old_side_clients() == CLIENTS && sealed_count() == CLIENTS);
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
        int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
        cr_assert_eq(old_side_take(sock, &batch), 0);
        if (unread)
            cr_assert_eq(send(old.end, "x", 1, 0), 1);
        fdpass_close(fds, CLIENTS + 1);
        close(sock);
        old_side_turn();
        cr_expect(old_side_clients() == CLIENTS && sealed_count() == CLIENTS);
        sender_shut(old.shardlet.ctx.sender);
        shardlet_turn(&old.shardlet);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        char record[64];
        size_t n = sealed_wrap(&sealed[i], (struct span){"{}\n", 3}, record);
        cr_assert_eq(send(old.peers[i], record, n, MSG_NOSIGNAL), (ssize_t)n);
        shardlet_turn(&old.shardlet);
        cr_expect_gt(recv(old.peers[i], record, sizeof(record), 0), 0, "client %zu", i);
    }
}

/* The old side breaks off where TAKEN lies there: YOURS is still said. */
Test(sender_settle, breaks_off_before_it_has_read_the_answer)
{
    struct handover_message batch, yours;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    cr_assert_eq(old_side_take(sock, &batch), 0);
    sender_shut(old.shardlet.ctx.sender);
    cr_expect_eq(sealed_count(), 1u);
    cr_expect_eq(next_type(sock, &yours), HANDOVER_YOURS);
    fdpass_close(fds, CLIENTS + 1);
    shardlet_turn(&old.shardlet);
    cr_expect_eq(next_type(sock, &yours), -EPIPE);
    close(sock);
}

/* Fills the socket as far as the old side can. Returns how many messages lie there. */
static unsigned fill_socket(void)
{
    unsigned n = 0;
    char junk[1000] = {0};
    while (send(old.end, junk, sizeof(junk), 0) > 0)
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
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    unsigned n = fill_socket();
    cr_assert_eq(old_side_take(sock, &batch), 0);
    for (int i = 0; i < 3; i++)
        old_side_turn();
    cr_expect_eq(sealed_count(), CLIENTS);
    cr_expect_eq(old_side_clients(), 0);
    cr_expect(sender_has_clients(old.shardlet.ctx.sender));
    drain_socket(sock, n);
    old_side_turn();
    cr_expect_eq(next_type(sock, &yours), HANDOVER_YOURS);
    cr_expect(yours.batch == batch.batch && sealed_count() == 1);
    old_side_turn(); /* the one that was not taken is kept: no batch follows */
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
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    unsigned n = fill_socket();
    cr_assert_eq(old_side_take(sock, &batch), 0);
    old_side_turn();
    cr_assert_eq(sealed_count(), CLIENTS);
    sender_shut(old.shardlet.ctx.sender);
    cr_expect_eq(sealed_count(), 1u);
    shardlet_turn(&old.shardlet);
    drain_socket(sock, n);
    cr_expect_eq(next_type(sock, &yours), -EPIPE);
    cr_expect(old_side_is_open(old.peers[1]));
    fdpass_close(fds, CLIENTS + 1);
    cr_expect_not(old_side_is_open(old.peers[1]));
    close(sock);
}

/* And where the new side ends meanwhile, they are taken back. */
Test(sender_settle, the_new_side_ends_without_room_for_yours)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    give_keys(0);
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    fill_socket();
    cr_assert_eq(old_side_take(sock, &batch), 0);
    old_side_turn();
    fdpass_close(fds, CLIENTS + 1);
    close(sock);
    old_side_turn();
    cr_expect(old_side_clients() == CLIENTS && sealed_count() == CLIENTS);
}

/* Who breaks the order of messages may have what it has: with keys none of it is used here. */
Test(sender_settle, the_new_side_breaks_the_order)
{
    for (int keys = 1; keys >= 0; keys--) {
        struct handover_message batch, message;
        int fds[FDPASS_FDS_MAX];
        if (keys)
            give_keys(1);
        int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
        struct handover_message taken = {.batch = batch.batch, .count = CLIENTS - 1};
        cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
        old_side_turn();
        cr_expect_eq(old_side_clients(), keys ? 0 : CLIENTS, "%d", keys);
        cr_expect_eq(sealed_count(), 0u);
        cr_expect_eq(next_type(sock, &message), -EPIPE);
        fdpass_close(fds, CLIENTS + 1);
        close(sock);
        sender_shut(old.shardlet.ctx.sender);
        for (size_t i = 0; keys && i < CLIENTS; i++) {
            close(old.peers[i]);
            shardlet_client(&old.shardlet, "lines", &old.peers[i]);
        }
        shardlet_turn(&old.shardlet);
    }
}

/* The same where it is found out when the old side breaks off. */
Test(sender_settle, breaks_off_where_the_order_is_broken)
{
    struct handover_message batch;
    int fds[FDPASS_FDS_MAX];
    give_keys(1);
    int sock = old_side_offer(HANDOVER_TWICE, &batch, fds);
    cr_assert_eq(send(sock, "x", 1, 0), 1);
    cr_assert_eq(old_side_take(sock, &batch), 0);
    sender_shut(old.shardlet.ctx.sender);
    cr_expect_eq(old_side_clients(), 0);
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
    int sock = old_side_greet(0);
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, 0, true);
    old_side_turn();
    old_side_receive_batch(sock, &batch, fds, &nfds);
    cr_expect_eq(batch.count, 1u);
    cr_expect_eq(batch.flags, 0);
    cr_expect_eq(sealed_count(), CLIENTS - 1u);
    struct handover_message taken = {.batch = batch.batch, .count = 1, .taken = {1}};
    cr_assert_eq(handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0), 0);
    for (int i = 0; i < 10000 && sealed_count() > 0; i++) {
        old_side_turn();
        usleep(1000);
    }
    cr_expect_eq(sealed_count(), 0u);
    cr_expect(old_side_is_open(old.peers[0]) && !old_side_is_open(old.peers[1]) &&
              !old_side_is_open(old.peers[2]));
    fdpass_close(fds, nfds);
    close(sock);
}
