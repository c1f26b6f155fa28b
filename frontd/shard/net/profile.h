#pragma once

/*
 * What a shard spends its time on, measured only while it is asked (inspect/profile_question.c):
 * then the clock is read where one kind of work ends and another begins, a few times in a turn.
 * Else each of these places costs a branch.
 */

#include "common/base.h"

/* X(NAME, label) */
#define PROFILE_WORK(X)                                                                            \
    X(WAITING, "waiting") /* for what comes next, the kernel's part of it included */              \
    X(ACCEPTING, "accepting")                                                                      \
    X(READING, "reading")     /* clients: bytes, requests, their calls */                          \
    X(WORKERS, "workers")     /* frames of workers and siblings, what becomes of them */           \
    X(WRITING, "writing")     /* to clients, workers and siblings */                               \
    X(LEFT_OVER, "left_over") /* messages to many members of a topic, frames put off */            \
    X(TLS, "tls")             /* handshakes */                                                     \
    X(TIMERS, "timers")                                                                            \
    X(HANDOVER, "handover")                                                                        \
    X(MEMORY, "memory")   /* looking after its limit */                                            \
    X(INSPECT, "inspect") /* what operators ask */                                                 \
    X(OTHER, "other")

enum profile_work {
#define PROFILE_NAME(name, label) PROFILE_##name,
    PROFILE_WORK(PROFILE_NAME)
#undef PROFILE_NAME
        PROFILE_COUNT
};

struct profile {
    uint64_t ns[PROFILE_COUNT];
    uint64_t turns;
    uint64_t since; /* ns: when the work that goes on began */
    enum profile_work work;
};

/* Of this process; NULL: nothing is measured. */
extern struct profile *profile_now;

/* Another kind of work begins. */
void profile_switch(enum profile_work work);

static inline void profile_enter(enum profile_work work)
{
    if (UNLIKELY(profile_now != NULL))
        profile_switch(work);
}

/* What was measured so far, the work that goes on included; begins to measure. */
struct profile profile_start(void);

/* The same; measures no more once it was called as often as profile_start(). */
struct profile profile_stop(void);

/* The label of a kind; static text. */
const char *profile_label(enum profile_work work);
