#pragma once

/* An old shard with some clients that it hands over, for tests that play the new side. */

#include "frontd/shard/handover/message.h"
#include "frontd/shard/handover/sender.h"
#include "tests/unit/support/shardlet.h"

enum { OLD_SEAT = 4, NEW_SEAT = 7, CLIENTS = 3, DRAIN_MS = 3600 * 1000 };

extern struct old_side {
    struct shardlet shardlet;
    int peers[CLIENTS]; /* of its clients, which speak lines */
    int end;            /* its end of the last socket of a hand-over */
    size_t open_before;
} old;

void old_side_init(void);

/* Ends it; asserts that nothing is left. */
void old_side_deinit(void);

void old_side_turn(void);

/* How many clients are not on their way: they live, or wait to be offered again. */
size_t old_side_clients(void);

/* A new shard that says so, with these flags. Returns its end of the socket. */
int old_side_greet(uint8_t flags);

/* The same, and all clients are offered to it. Returns its end of the socket, and what came. */
int old_side_offer(uint8_t flags, struct handover_message *ret_batch, int *fds);

/* The next batch; that the old side tells how far it is counts for nothing. */
void old_side_receive_batch(
    int sock, struct handover_message *ret_batch, int *fds, size_t *ret_nfds);

/* Says that all but the first are the new side's. Returns as handover_send(). */
int old_side_take(int sock, const struct handover_message *batch);

/* Whether the client's connection is open, and nothing has come on it. */
bool old_side_is_open(int peer);
