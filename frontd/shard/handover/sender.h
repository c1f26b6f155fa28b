#pragma once

/* The old generation's side of the hand-over: this shard's connections go to the new shards. */

#include "frontd/shard/client/client.h"

void give_init(struct ctx *ctx);

/* A socket to the new shard on that seat. fd: consumed. 0 or -errno. */
int give_add(unsigned seat, int fd);

/*
 * From now on connections go, each as soon as it is quiet. all: the shard's. drain_ms: until then
 * those that no new shard takes are closed, a few at a time. heirs: false where there is no new
 * shard that could take any.
 */
void give_start(struct list *all, uint64_t drain_ms, bool heirs);

/* At the end of a turn, before anything is flushed: what is published has to be with those who are
 * to be sent. */
void give_prepare(void);

/* At the end of a turn: sends what has become quiet. */
void give_turn(void);

/* The timer kind TIMER_GIVE. */
void give_timeout(struct wheel_timer *timer);

/* Whether a new shard is behind with what is pushed, so that connections wait on their way to it,
 * or so much is kept for them, that channels which only push are better not read for now. */
bool give_overloaded(void);

/* Whether there are connections that are on their way, or about to be; they are in no list of ours.
 */
bool give_has_clients(void);

/* Ends it: what is on its way counts as not taken. */
void give_shut(void);
