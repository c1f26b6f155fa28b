#pragma once

/*
 * What was counted goes on in the memory of a program that lays it out in another way: the sums are
 * written by names, in the state that the supervisor leaves to the program which it executes
 * (reexec_state.h), and are what that program's memory begins with. What the words there have no
 * name for is left out.
 */

#include "frontd/ipc/metrics.h"
#include "proto/json_write.h"

/* Writes the sums, as a member `counts`. */
void metric_carry_save(const struct share *share, struct json_writer *out);

/*
 * Adds what was written to a new memory, in which nothing counts yet. What was open or in progress
 * goes on to be counted in the old memory: here it is closed as RECOUNTED or has ended as CRASH,
 * and a connection that comes over is accepted anew. counts: the member; it may be anything.
 */
void metric_carry_restore(struct share *share, struct span counts);
