#pragma once

/*
 * The answers of workers to jobs: those in one RESPONSE as they come, and those in parts (protocol
 * section 8), which gather, since only whole ones are relayed. One that is wrong costs its call and
 * nothing else.
 */

#include "frontd/shard/upstream/pool.h"

/*
 * A RESPONSE or DATA has come for a job that is SENT, whether it is waited for or not. The job may
 * be gone afterwards.
 */
void answer_frame(struct job *job, const struct frame *frame);

/* The same for one that is over max_frame: only its head is known, the rest is skipped. */
void answer_too_long(struct job *job, const struct frame_head *head);

/* The parts that have come are of no use any more. */
void answer_drop(struct job *job);
