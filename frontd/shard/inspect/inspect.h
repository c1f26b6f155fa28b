#pragma once

/*
 * The questions that this shard is being asked. CTL_ASK → inspect_ask() reads the question →
 * inspect_turn() works on all that are there, by turns, for a bounded time at the end of each turn
 * of the loop → CTL_TELL with the answer. A question that is wrong, or one too many, is answered
 * with {"error": text}, and "wrong": true in the first
 * case. Where the supervisor has gone, all are forgotten.
 */

#include "frontd/shard/inspect/question.h"

enum {
    INSPECT_MAX = 16,          /* questions at the same time */
    INSPECT_SLICE_NS = 250000, /* of a turn, for all questions together */
    INSPECT_AGAIN_MS = 10,     /* after which an answer is sent again that had no room */
    INSPECT_GIVE_UP_MS = 5000, /* for how long that is tried */
};

struct inspect {
    struct ctx *ctx;
    const struct question_ops *const *ops; /* by enum ctl_question; NULL: it is not known */
    struct list questions;
    unsigned count;
    int sock;                 /* to the supervisor, borrowed */
    struct wheel_timer timer; /* for the first question that waits */
};

/* ops: CTL_QUESTIONS of them, borrowed. */
void inspect_init(
    struct inspect *inspect, struct ctx *ctx, int sock, const struct question_ops *const *ops);

/* Forgets all questions; nothing more is told. */
void inspect_forget(struct inspect *inspect);

/* The message is CTL_ASK. fd: of its text, consumed. */
void inspect_ask(struct inspect *inspect, const struct ctl_ask *ask, int fd);

/* The end of a turn: goes on with what is asked. */
void inspect_turn(struct inspect *inspect);

/* Whether there is something to go on with in the next turn, which is not to wait then. */
bool inspect_unfinished(const struct inspect *inspect);

/* Its wheel timer is due: the turn's end goes on with the question that has waited for it. */
void inspect_timeout(struct wheel_timer *timer);
