#include <criterion/criterion.h>

#include "frontd/supervisor/heartbeat.h"

enum { PERIOD = 500 };

static uint64_t look(struct heartbeat *heartbeat, uint64_t beats, uint64_t elapsed)
{
    return heartbeat_look(heartbeat, beats, elapsed, PERIOD);
}

Test(heartbeat, any_change_is_a_sign_of_life)
{
    struct heartbeat heartbeat = {0};
    const uint64_t values[] = {1, 2, 0, UINT64_MAX, 7, 6, 0};
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        cr_expect_eq(look(&heartbeat, values[i], PERIOD), 0u, "value %zu", i);
    for (uint64_t i = 1; i <= 20; i++)
        cr_expect_eq(look(&heartbeat, 0, PERIOD), i * PERIOD);
    cr_expect_eq(look(&heartbeat, 1, PERIOD), 0u);
    cr_expect_eq(look(&heartbeat, 1, PERIOD), (uint64_t)PERIOD, "it counts anew");
}

/* The whole front was stopped: each look after it counts as one, whichever process is continued
 * first. */
Test(heartbeat, time_that_nobody_looked_does_not_count)
{
    struct heartbeat heartbeat = {0};
    look(&heartbeat, 5, PERIOD);
    cr_expect_eq(look(&heartbeat, 5, 3600 * 1000), (uint64_t)PERIOD);
    cr_expect_eq(look(&heartbeat, 5, UINT64_MAX), 2u * PERIOD);
    cr_expect_eq(
        look(&heartbeat, 5, PERIOD / 2), 2u * PERIOD + PERIOD / 2, "early ones count less");
    cr_expect_eq(look(&heartbeat, 6, 3600 * 1000), 0u);
}
