#include "common/wheel.h"

/*
 * Level 0 has a slot per millisecond of the next 64; level n a slot per 64^n ms. A timer lies in
 * the lowest level that reaches its time; when the wheel comes to a slot of a higher level, its
 * timers are laid anew, lower down.
 */

static const uint64_t RANGE_MAX = (uint64_t)1 << (WHEEL_LEVELS * WHEEL_BITS);

void wheel_init(struct wheel *wheel, uint64_t now)
{
    *wheel = (struct wheel){.now = now};
    for (size_t level = 0; level < WHEEL_LEVELS; level++) {
        for (size_t slot = 0; slot < WHEEL_SLOTS; slot++)
            list_init(&wheel->slots[level][slot]);
    }
    list_init(&wheel->expired);
}

static void lay(struct wheel *wheel, struct wheel_timer *timer)
{
    uint64_t at = timer->at;
    if (at < wheel->now) {
        list_append(&wheel->expired, &timer->node);
        return;
    }
    if (at - wheel->now >= RANGE_MAX)
        at = wheel->now + RANGE_MAX - 1;
    /* The highest group of bits in which the two times differ names the level. */
    uint64_t differ = at ^ wheel->now;
    unsigned level = differ == 0 ? 0 : (63U - (unsigned)__builtin_clzll(differ)) / WHEEL_BITS;
    if (level >= WHEEL_LEVELS)
        level = WHEEL_LEVELS - 1; /* a carry beyond the top: the top level's slots wrap around */
    unsigned slot = (unsigned)(at >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
    wheel->occupied[level] |= (uint64_t)1 << slot;
    list_append(&wheel->slots[level][slot], &timer->node);
}

void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t at)
{
    list_remove(&timer->node);
    timer->at = MIN(at, ((uint64_t)1 << 56) - 1);
    lay(wheel, timer);
}

/* Takes the timers of a slot and lays each anew, now that time has come closer. */
static void cascade(struct wheel *wheel, unsigned level, unsigned slot)
{
    struct list timers;
    list_init(&timers);
    list_take(&timers, &wheel->slots[level][slot]);
    wheel->occupied[level] &= ~((uint64_t)1 << slot);
    list_for_each_safe (node, &timers) {
        list_remove(node);
        lay(wheel, container_of(node, struct wheel_timer, node));
    }
}

/* The distance in slots (1 to 64) from `slot` to the next occupied one; 0 where there is none. */
static unsigned distance(uint64_t occupied, unsigned slot)
{
    if (occupied == 0)
        return 0;
    unsigned shift = (slot + 1) & (WHEEL_SLOTS - 1);
    uint64_t turned = shift == 0 ? occupied : (occupied >> shift) | (occupied << (64 - shift));
    return (unsigned)__builtin_ctzll(turned) + 1;
}

uint64_t wheel_next(const struct wheel *wheel)
{
    if (!list_empty(&wheel->expired))
        return wheel->now;
    uint64_t next = UINT64_MAX;
    unsigned here = (unsigned)wheel->now & (WHEEL_SLOTS - 1);
    if (wheel->occupied[0] >> here & 1)
        return wheel->now;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t unit = wheel->now >> (level * WHEEL_BITS);
        unsigned steps = distance(wheel->occupied[level], (unsigned)unit & (WHEEL_SLOTS - 1));
        if (steps == 0)
            continue;
        uint64_t at = (unit + steps) << (level * WHEEL_BITS);
        if (at < next)
            next = at;
    }
    return next;
}

/* Steps to `to`, a time at which a slot begins and before which nothing is due. */
static void step(struct wheel *wheel, uint64_t to)
{
    wheel->now = to;
    for (unsigned level = WHEEL_LEVELS; level-- > 1;) {
        if (to & (((uint64_t)1 << (level * WHEEL_BITS)) - 1))
            continue;
        unsigned slot = (unsigned)(to >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1);
        cascade(wheel, level, slot);
    }
}

/* Everything in the slot of this very millisecond is due. */
static void collect(struct wheel *wheel)
{
    unsigned slot = (unsigned)wheel->now & (WHEEL_SLOTS - 1);
    wheel->occupied[0] &= ~((uint64_t)1 << slot);
    list_for_each_safe (node, &wheel->slots[0][slot]) {
        list_remove(node);
        list_append(&wheel->expired, node);
    }
}

struct wheel_timer *wheel_expire(struct wheel *wheel, uint64_t now)
{
    while (list_empty(&wheel->expired)) {
        uint64_t next = wheel_next(wheel);
        if (next > now) {
            /* Nothing lies between; slots of higher levels that begin in between are empty. */
            if (now > wheel->now)
                wheel->now = now;
            return NULL;
        }
        if (next > wheel->now)
            step(wheel, next);
        collect(wheel);
    }
    struct wheel_timer *timer = list_first(&wheel->expired, struct wheel_timer, node);
    list_remove(&timer->node);
    return timer;
}
