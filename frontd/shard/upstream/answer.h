#pragma once

/*
 * The answers of workers to jobs: those in one RESPONSE, and those in parts (protocol section 8),
 * each of which is handed on as it comes, or gathers here where only a whole one is wanted. An
 * answer that is wrong costs its call and nothing else.
 */

#include "frontd/shard/upstream/channel.h"
#include "frontd/shard/upstream/fault.h"
#include "frontd/shard/upstream/job.h"

/* What is needed of a worker to take its answers. */
struct answers {
    struct channel *channel; /* that they come on */
    struct faults *faults;
    const struct job_ops *ops; /* for given_up() and part() */
    /*
     * The worker is done with the job. error: 0: the frame, borrowed, is its answer; else the job
     * has failed so, and there may be no frame.
     */
    void (*ended)(struct job *job, const struct frame *frame, enum rpc_error error);
};

/*
 * A RESPONSE or DATA has come for a job that is SENT, abandoned or not. The job may be gone
 * afterwards.
 */
void answer_frame(const struct answers *answers, struct job *job, const struct frame *frame);

/* The same for one that is over max_frame: only its head is known, the rest is skipped. */
void answer_too_long(const struct answers *answers, struct job *job, const struct frame_head *head);

/* Frees the parts that have come. */
void answer_drop(struct job *job);
