#pragma once

/* What a shard does as its memory (memory.h) becomes short, and when it is there again. */

#include "frontd/shard/client/client.h"

/*
 * At the end of a turn, before the last flush: ends the largest holders where memory is out, lets
 * those be read on that were not, and sees to it that memory is given back after a peak.
 * all: the shard's clients.
 */
void pressure_turn(struct ctx *ctx, struct list *all);

/* The timer kind TIMER_MEMORY. */
void pressure_timeout(struct wheel_timer *timer);
