#pragma once

/* When a shard says READY: once it is known which workers there are. */

struct shard;

/* The supervisor has said RUN. */
void ready_start(struct shard *shard);

/* At the end of each turn: says READY when all workers have answered. */
void ready_turn(struct shard *shard);
