#include <criterion/criterion.h>
#include <string.h>

#include "common/base.h"
#include "frontd/ipc/control.h"
#include "frontd/ipc/tls_tickets.h"

static const uint64_t HOUR = 3600 * 1000;

static struct tls_ticket_keys keys;
static uint8_t last; /* what the newest key is made of */

/* A step with bytes that no step before had. */
static bool step(uint64_t now, uint64_t lifetime)
{
    uint8_t random[TLS_TICKET_RANDOM_SIZE];
    for (size_t i = 0; i < sizeof(random); i++)
        random[i] = (uint8_t)(last + 1 + i % 3);
    bool changed = tls_tickets_step(&keys, now, lifetime, random);
    if (keys.count > 0 && keys.keys[0].name[0] == (uint8_t)(last + 1))
        last = (uint8_t)(last + 4);
    cr_expect(tls_tickets_valid(&keys, now), "at %llu", (unsigned long long)now);
    return changed;
}

static uint64_t due(uint64_t now, uint64_t lifetime)
{
    return tls_tickets_due(&keys, now, lifetime);
}

Test(tls_tickets, the_first_key)
{
    cr_expect_eq(due(5, HOUR), 0);
    cr_assert(step(5, HOUR));
    cr_assert_eq(keys.count, 1);
    cr_expect_eq(keys.keys[0].name[0], 1);
    cr_expect_eq(keys.keys[0].made, 5);
    cr_expect_eq(keys.keys[0].until, 5 + HOUR / 2 + HOUR);
    cr_expect_neq(memcmp(keys.keys[0].aes, keys.keys[0].hmac, 3), 0, "no byte is used twice");
    cr_expect_eq(tls_tickets_find(&keys, keys.keys[0].name), &keys.keys[0]);
    cr_expect_eq(due(5, HOUR), HOUR / 2);
    cr_expect_not(step(5, HOUR));
    cr_expect_eq(keys.count, 1);
}

Test(tls_tickets, a_new_one_each_half_lifetime)
{
    uint8_t first[TLS_TICKET_NAME_SIZE];
    step(0, HOUR);
    memcpy(first, keys.keys[0].name, sizeof(first));
    cr_expect_not(step(HOUR / 2 - 1, HOUR));
    cr_expect_eq(due(HOUR / 2 - 1, HOUR), 1);
    cr_expect(step(HOUR / 2, HOUR));
    cr_assert_eq(keys.count, 2);
    cr_expect_eq(keys.keys[0].made, HOUR / 2);
    cr_expect_eq(memcmp(keys.keys[1].name, first, sizeof(first)), 0);
    cr_expect_eq(tls_tickets_find(&keys, first), &keys.keys[1]);
    /* Its last ticket was made at half a lifetime, and is valid for a lifetime more. */
    step(HOUR, HOUR);
    cr_expect_not(step(HOUR + HOUR / 2 - 1, HOUR));
    cr_expect_not_null(tls_tickets_find(&keys, first));
    step(HOUR + HOUR / 2, HOUR);
    cr_expect_null(tls_tickets_find(&keys, first));
}

Test(tls_tickets, a_ticket_is_read_for_its_whole_lifetime_whenever_it_was_made)
{
    for (uint64_t made = 0; made < 3 * HOUR; made += HOUR / 7) {
        uint8_t name[TLS_TICKET_NAME_SIZE];
        memset(&keys, 0, sizeof(keys));
        uint64_t now = 0;
        for (; now <= made; now += HOUR / 60)
            step(now, HOUR);
        now -= HOUR / 60;
        memcpy(name, keys.keys[0].name, sizeof(name));
        for (uint64_t end = now + HOUR; now < end; now += HOUR / 60) {
            step(now, HOUR);
            cr_assert_not_null(tls_tickets_find(&keys, name));
            cr_assert_leq(keys.count, 4);
        }
    }
}

Test(tls_tickets, one_that_comes_late)
{
    uint8_t first[TLS_TICKET_NAME_SIZE];
    step(0, HOUR);
    memcpy(first, keys.keys[0].name, sizeof(first));
    cr_expect(step(HOUR, HOUR)); /* half a lifetime late; it has encrypted until now */
    step(2 * HOUR - 1, HOUR);
    cr_expect_not_null(tls_tickets_find(&keys, first));
    step(2 * HOUR, HOUR);
    cr_expect_null(tls_tickets_find(&keys, first));
}

Test(tls_tickets, none_for_a_long_time)
{
    step(0, HOUR);
    cr_expect(step(100 * HOUR, HOUR));
    cr_expect_eq(keys.count, 1);
    cr_expect_eq(keys.keys[0].made, 100 * HOUR);
}

Test(tls_tickets, off)
{
    static const struct tls_ticket_keys none;
    cr_expect_eq(due(0, 0), UINT64_MAX);
    cr_expect_not(step(0, 0));
    step(0, HOUR);
    step(HOUR / 2, HOUR);
    cr_expect_eq(due(HOUR / 2, 0), 0);
    cr_expect(step(HOUR / 2, 0));
    cr_expect_eq(memcmp(&keys, &none, sizeof(keys)), 0, "nothing of them is left");
    cr_expect_not(step(HOUR, 0));
}

Test(tls_tickets, a_longer_lifetime)
{
    step(0, HOUR);
    cr_expect(step(1000, 10 * HOUR));
    cr_expect_eq(keys.count, 1);
    cr_expect_eq(keys.keys[0].until, 15 * HOUR);
    cr_expect_eq(due(1000, 10 * HOUR), 5 * HOUR - 1000);
}

Test(tls_tickets, a_shorter_lifetime)
{
    step(0, 10 * HOUR);
    cr_expect(step(HOUR, HOUR));
    cr_assert_eq(keys.count, 2);
    cr_expect_eq(keys.keys[1].until, 15 * HOUR, "its tickets are valid for as long as before");
    for (uint64_t now = HOUR; now < 14 * HOUR; now += HOUR / 2)
        step(now, HOUR);
    cr_assert_eq(keys.count, 4);
    cr_expect_eq(keys.keys[3].until, 15 * HOUR);
    step(15 * HOUR - 1, 100 * HOUR);
    cr_expect_eq(due(15 * HOUR - 1, 100 * HOUR), 1, "a key that is too old is taken away in time");
}

Test(tls_tickets, as_many_as_there_is_room_for)
{
    static const uint8_t nothing[sizeof(keys.keys[0])];
    for (uint64_t i = 0; i < TLS_TICKET_KEYS_MAX; i++)
        step(i, 1);
    memset(&keys, 0, sizeof(keys));
    for (uint64_t i = 0; i < TLS_TICKET_KEYS_MAX; i++) {
        step(2 * i, 100 * HOUR);
        step(2 * i + 1, 2); /* which makes the next one due at once */
        keys.keys[0].until = HOUR;
    }
    cr_assert_eq(keys.count, TLS_TICKET_KEYS_MAX);
    uint8_t oldest = keys.keys[TLS_TICKET_KEYS_MAX - 1].name[0];
    uint8_t second = keys.keys[TLS_TICKET_KEYS_MAX - 2].name[0];
    cr_expect(step(HOUR / 2, 2));
    cr_assert_eq(keys.count, TLS_TICKET_KEYS_MAX);
    cr_expect_neq(second, oldest);
    cr_expect_eq(keys.keys[TLS_TICKET_KEYS_MAX - 1].name[0], second, "the oldest one goes");
    cr_expect_neq(memcmp(&keys.keys[TLS_TICKET_KEYS_MAX - 1], nothing, sizeof(nothing)), 0);
}

static void fill(uint64_t count)
{
    memset(&keys, 0, sizeof(keys));
    keys.count = count;
    for (uint64_t i = 0; i < MIN(count, (uint64_t)TLS_TICKET_KEYS_MAX); i++) {
        keys.keys[i].name[3] = (uint8_t)i;
        keys.keys[i].made = 1000 - i;
        keys.keys[i].until = 2000;
    }
}

Test(tls_tickets, what_another_process_may_say)
{
    const uint64_t longest = 2 * CONF_TICKETS_MAX + CONF_TICKETS_MAX / 2;
    fill(0);
    cr_expect(tls_tickets_valid(&keys, 0));
    fill(TLS_TICKET_KEYS_MAX);
    cr_expect(tls_tickets_valid(&keys, 1000));
    fill(TLS_TICKET_KEYS_MAX + 1);
    cr_expect_not(tls_tickets_valid(&keys, 1000));
    fill(UINT64_MAX);
    cr_expect_not(tls_tickets_valid(&keys, 1000));
    fill(2);
    cr_expect_not(tls_tickets_valid(&keys, 999), "made in the future");
    keys.keys[1].made = 1000;
    cr_expect(tls_tickets_valid(&keys, 1000));
    keys.keys[1].made = 1001;
    cr_expect_not(tls_tickets_valid(&keys, 1001), "in the wrong order");
    fill(2);
    keys.keys[1].name[3] = 0;
    cr_expect_not(tls_tickets_valid(&keys, 1000), "a name twice");
    fill(1);
    keys.keys[0].until = 999;
    cr_expect_not(tls_tickets_valid(&keys, 1000), "it ends before it begins");
    keys.keys[0].until = 1000 + longest;
    cr_expect(tls_tickets_valid(&keys, 1000));
    keys.keys[0].until++;
    cr_expect_not(tls_tickets_valid(&keys, 1000), "it lasts for too long");
}

Test(tls_tickets, the_clock)
{
    uint64_t now = tls_tickets_now();
    cr_expect_gt(now, 0);
    cr_expect_leq(now, tls_tickets_now());
}
