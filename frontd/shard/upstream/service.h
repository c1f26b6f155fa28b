#pragma once

/*
 * How long the workers of a pool take for a call, as one shard has measured it: the mean, by which
 * the wait in a queue is foreseen; the mean deviation, by which it is known how much longer a call
 * may take; and the least of the last calls, below which no answer is to be expected. No clock:
 * time is an argument.
 *
 * Nothing is said from few calls, nor from old ones: a shard that has just started refuses nothing
 * by it, and workers that have become faster are not judged for ever by what they once were.
 */

#include <stdbool.h>
#include <stdint.h>

enum {
    SERVICE_WINDOW = 64,      /* calls before anything is said; `least` is of 64 to 128 of them */
    SERVICE_WEIGHT = 16,      /* the newest call counts a 16th of the means */
    SERVICE_DEVIATIONS = 4,   /* beyond the mean: as for a retransmission in TCP (RFC 6298) */
    SERVICE_WAIT_PART = 8,    /* a wait may be longer by an 8th, since the mean is of few calls */
    SERVICE_STALE_MS = 10000, /* without a call: what was measured before says nothing any more */
};

/* Zeroed: nothing has been measured. */
struct service {
    uint64_t mean_ns;  /* moving average (EWMA), in ns, since of few us a 16th would be lost */
    uint64_t dev_ns;   /* the same, of how far a call is from mean_ns */
    uint64_t least[2]; /* us: of this window, and of the one before */
    uint64_t noted_at; /* ms: the last call */
    uint32_t n;        /* calls in this window */
    bool known;        /* one window is complete */
};

/* A worker has taken `us` for a call. now: ms. */
void service_note(struct service *service, uint64_t us, uint64_t now);

/* Whether there is something to go by. now: ms. */
static inline bool service_known(const struct service *service, uint64_t now)
{
    return service->known && now - service->noted_at <= SERVICE_STALE_MS;
}

/* The least that one of the last calls took, us. Only of a service that is known. */
uint64_t service_least(const struct service *service);

/* How long it takes until so many calls are through and a slot is free, us: without those that the
 * workers have now. slots: over 0. Only of a service that is known. */
uint64_t service_wait(const struct service *service, uint64_t ahead, uint64_t slots);

/*
 * Whether a call that waits for `wait` us would be answered too late, where it has `left` us: what
 * is left then is less than most calls take. Half of `left` is enough, whatever they take: else
 * nothing could ever wait where deadlines are short. Only of a service that is known.
 */
bool service_is_late(const struct service *service, uint64_t wait, uint64_t left);
