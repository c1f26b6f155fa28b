#pragma once

/* The new generation's side of the hand-over: connections of old shards become this shard's. */

#include "frontd/shard/client/acceptor.h"

/* acceptor: whose clients they become. */
void take_init(struct acceptor *acceptor);

/* A socket to the old shard on that seat. fd: consumed. 0 or -errno. */
int take_add(unsigned seat, int fd);

/* At the end of a turn: takes what had to wait until siblings were heard. */
void take_turn(void);

/* Whether so much is kept for connections that are about to come, or they wait for so much that is
 * not carried out yet, that channels which only push are better not read for now. */
bool take_overloaded(void);

/* Whether a batch waits for siblings to be heard: look again when the turn ends. */
bool take_waiting(void);

/* The timer kind TIMER_TAKE. */
void take_timeout(struct wheel_timer *timer);

/* Lets go of everything. */
void take_shut(void);
