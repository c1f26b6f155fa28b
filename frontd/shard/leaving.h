#pragma once

/* The end of a shard: its connections end, or go to other shards, and then its workers are left. */

#include "frontd/ipc/control.h"

struct shard;

/*
 * The shard stops accepting and ends when its clients have their answers. A shard that hands its
 * clients over keeps those that it still has.
 */
void leaving_drain(struct shard *shard);

/* LEAVE has come: its clients go to other shards. Ends the process where it has never had any. */
void leaving_start(struct shard *shard, const struct ctl_message *message);

/* At the end of each turn: lets go of the workers, or of everything (shard->finished), once that is
 * due. */
void leaving_turn(struct shard *shard);
