#include "tests/unit/support/old_side.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/move_conf.h"

struct old_side old;

void old_side_init(void)
{
    shardlet_init(&old.shardlet, MOVE_CONF, OLD_SEAT);
    old.open_before = open_count();
    for (size_t i = 0; i < CLIENTS; i++)
        shardlet_client(&old.shardlet, "lines", &old.peers[i]);
    shardlet_turn(&old.shardlet);
}

void old_side_deinit(void)
{
    sender_shut(old.shardlet.ctx.sender);
    for (size_t i = 0; i < CLIENTS; i++)
        close(old.peers[i]);
    shardlet_turn(&old.shardlet);
    cr_expect_eq(old_side_clients(), 0);
    cr_expect_eq(open_count(), old.open_before);
    shardlet_deinit(&old.shardlet);
}

void old_side_turn(void)
{
    shardlet_turn(&old.shardlet);
    sender_turn(old.shardlet.ctx.sender);
}

size_t old_side_clients(void)
{
    size_t n = 0;
    list_for_each (node, &old.shardlet.clients)
        n++;
    list_for_each (node, &old.shardlet.ctx.idle)
        n++;
    return n;
}

int old_side_greet(uint8_t flags)
{
    struct handover_message hello = {.flags = flags};
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(sender_add(old.shardlet.ctx.sender, NEW_SEAT, pair[0]), 0);
    cr_assert_eq(handover_send(pair[1], HANDOVER_HELLO, &hello, NULL, 0), 0);
    old.end = pair[0];
    return pair[1];
}

int old_side_offer(uint8_t flags, struct handover_message *ret_batch, int *fds)
{
    int sock = old_side_greet(flags);
    size_t nfds;
    sender_start(old.shardlet.ctx.sender, &old.shardlet.clients, DRAIN_MS, true);
    old_side_turn();
    old_side_receive_batch(sock, ret_batch, fds, &nfds);
    cr_assert_eq(ret_batch->count, CLIENTS);
    cr_assert_eq(old_side_clients(), 0);
    cr_assert(sender_has_clients(old.shardlet.ctx.sender));
    return sock;
}

void old_side_receive_batch(
    int sock, struct handover_message *ret_batch, int *fds, size_t *ret_nfds)
{
    do
        cr_assert_eq(handover_receive(sock, ret_batch, fds, ret_nfds), 0);
    while (ret_batch->type == HANDOVER_HEARD);
    cr_assert_eq(ret_batch->type, HANDOVER_BATCH);
}

int old_side_take(int sock, const struct handover_message *batch)
{
    struct handover_message taken = {.batch = batch->batch, .count = CLIENTS, .taken = {6}};
    return handover_send(sock, HANDOVER_TAKEN, &taken, NULL, 0);
}

bool old_side_is_open(int peer)
{
    char byte;
    return recv(peer, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}
