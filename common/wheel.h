#pragma once

/*
 * A hierarchical timing wheel: any number of timers, each 24 bytes, armed and disarmed in constant
 * time. Time is an argument, in milliseconds of whatever monotonic clock the caller has.
 */

#include "common/list.h"

enum {
    WHEEL_LEVELS = 6,
    WHEEL_BITS = 6,
    WHEEL_SLOTS = 1 << WHEEL_BITS,
};

/* Member of the object that is timed. Set up with wheel_timer_init(). */
struct wheel_timer {
    struct list node;
    uint64_t at : 56;  /* ms; later than that (2 million years) counts as never */
    uint64_t kind : 8; /* for the owner: tells the caller of wheel_expire() which kind of object it
                          is a member of */
};

struct wheel {
    uint64_t now;                    /* ms; everything before it has expired */
    uint64_t occupied[WHEEL_LEVELS]; /* a bit per slot that may have timers */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    struct list expired;
};

void wheel_init(struct wheel *wheel, uint64_t now);

static inline void wheel_timer_init(struct wheel_timer *timer, uint8_t kind)
{
    list_init(&timer->node);
    timer->kind = kind;
}

static inline bool wheel_armed(const struct wheel_timer *timer)
{
    return !list_empty(&timer->node);
}

/* Arms (or arms anew) for time `at` in ms; one in the past fires at the next wheel_expire(). */
void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t at);

static inline void wheel_disarm(struct wheel_timer *timer)
{
    list_remove(&timer->node);
}

/*
 * Moves the wheel to `now` and returns one timer that is due, disarmed, or NULL when none is left.
 * Timers armed in between are taken too. Call it until it returns NULL.
 */
struct wheel_timer *wheel_expire(struct wheel *wheel, uint64_t now);

/*
 * When wheel_expire() has to be called next, in ms: never later than the first timer, possibly
 * earlier. UINT64_MAX when nothing is armed.
 */
uint64_t wheel_next(const struct wheel *wheel);
