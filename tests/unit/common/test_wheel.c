#include <criterion/criterion.h>

#include "common/wheel.h"

enum { TIMERS = 300 };

struct timed {
    struct wheel_timer timer;
    uint64_t at; /* what the model says; UINT64_MAX: not armed */
};

static struct wheel wheel;
static struct timed timers[TIMERS];
static uint64_t seed;

/* A generator of our own, so that a failure is the same on every machine. */
static uint64_t draw(void)
{
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return seed >> 24;
}

static void set_up(uint64_t now)
{
    wheel_init(&wheel, now);
    for (size_t i = 0; i < TIMERS; i++) {
        wheel_timer_init(&timers[i].timer, (uint8_t)i);
        timers[i].at = UINT64_MAX;
    }
}

static uint64_t first_of_model(void)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < TIMERS; i++) {
        if (timers[i].at < first)
            first = timers[i].at;
    }
    return first;
}

static void check_next(void)
{
    uint64_t first = first_of_model();
    uint64_t next = wheel_next(&wheel);
    /* One in the past is due now. */
    cr_assert(next <= first || next <= wheel.now, "later than the first timer");
    for (size_t i = 0; i < TIMERS; i++)
        cr_assert_eq(wheel_armed(&timers[i].timer), timers[i].at != UINT64_MAX);
}

/*
 * Everything that is due comes, once, and nothing that is not; those of different times in order.
 */
static void expire(uint64_t now)
{
    struct wheel_timer *timer;
    uint64_t last = 0;
    uint64_t before = wheel.now;
    for (size_t i = 0; (timer = wheel_expire(&wheel, now)) != NULL; i++) {
        struct timed *timed = container_of(timer, struct timed, timer);
        cr_assert_lt(i, (size_t)TIMERS);
        cr_assert_leq(timed->at, now);
        cr_assert(timed->at >= last || timed->at < before, "out of order");
        cr_assert_not(wheel_armed(timer));
        cr_assert_eq(timer->kind, (uint8_t)(timed - timers));
        last = timed->at > last ? timed->at : last;
        timed->at = UINT64_MAX;
    }
    cr_assert_gt(first_of_model(), now, "one that was due did not come");
}

/* Spans of time from a millisecond to beyond the wheel's range (2^36 ms). */
static uint64_t draw_span(void)
{
    uint64_t span = draw() & (((uint64_t)1 << (draw() % 38)) - 1);
    return draw() % 8 == 0 ? span & ~(uint64_t)63 : span;
}

static void run_model(uint64_t start, int turns)
{
    uint64_t now = start;
    set_up(now);
    for (int i = 0; i < turns; i++) {
        struct timed *timed = &timers[draw() % TIMERS];
        switch (draw() % 8) {
        case 0:
            wheel_disarm(&timed->timer);
            timed->at = UINT64_MAX;
            break;
        case 1:
            now += draw_span();
            expire(now);
            break;
        case 2:
            /* As an event loop does: straight to when it says. */
            if (wheel_next(&wheel) != UINT64_MAX && wheel_next(&wheel) > now)
                now = wheel_next(&wheel);
            expire(now);
            break;
        case 3:
            timed->at = draw() % 100; /* in the past, or now */
            timed->at = timed->at < now ? now - timed->at : 0;
            wheel_arm(&wheel, &timed->timer, timed->at);
            break;
        default:
            timed->at = now + draw_span();
            wheel_arm(&wheel, &timed->timer, timed->at);
            break;
        }
        check_next();
    }
    now += (uint64_t)1 << 40;
    expire(now);
    for (size_t i = 0; i < TIMERS; i++)
        cr_assert_not(wheel_armed(&timers[i].timer));
}

Test(wheel, agrees_with_a_list)
{
    static const uint64_t starts[] = {
        1000, 63, 64, 4095, ((uint64_t)1 << 36) - 5, ((uint64_t)1 << 41) + 12345, 123456789};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        for (seed = 1; seed < 40; seed++) {
            uint64_t keep = seed;
            run_model(starts[i], 2000);
            seed = keep;
        }
    }
}

/* The loop sleeps until wheel_next(): it must arrive in few steps, and exactly. */
Test(wheel, one_timer_is_reached_in_few_steps)
{
    for (unsigned bits = 0; bits < 36; bits++) {
        uint64_t at = 777 + ((uint64_t)1 << bits);
        uint64_t now = 777;
        set_up(now);
        wheel_arm(&wheel, &timers[0].timer, at);
        for (int steps = 0; wheel_armed(&timers[0].timer); steps++) {
            cr_assert_lt(steps, 10);
            cr_assert_geq(wheel_next(&wheel), now);
            now = wheel_next(&wheel);
            cr_assert_leq(now, at);
            cr_assert_eq(wheel_expire(&wheel, now) != NULL, now == at);
        }
    }
}

Test(wheel, an_empty_wheel_says_never)
{
    set_up(5);
    cr_assert_eq(wheel_next(&wheel), UINT64_MAX);
    cr_assert_null(wheel_expire(&wheel, 1000000));
    wheel_arm(&wheel, &timers[0].timer, 1000001);
    wheel_disarm(&timers[0].timer);
    cr_assert_null(wheel_expire(&wheel, 2000000));
    cr_assert_eq(wheel_next(&wheel), UINT64_MAX, "what was disarmed is forgotten in the end");
}

Test(wheel, a_timer_may_arm_itself_again)
{
    set_up(0);
    wheel_arm(&wheel, &timers[0].timer, 10);
    cr_assert_eq(wheel_expire(&wheel, 10), &timers[0].timer);
    wheel_arm(&wheel, &timers[0].timer, 10);
    cr_assert_eq(wheel_expire(&wheel, 10), &timers[0].timer);
    wheel_arm(&wheel, &timers[0].timer, 11);
    cr_assert_null(wheel_expire(&wheel, 10));
    cr_assert_eq(wheel_expire(&wheel, 11), &timers[0].timer);
}
