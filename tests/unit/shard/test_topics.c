#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/push/topics.h"

enum { RED = 1, BLUE = 2, CLIENTS = 50 };

struct client {
    struct subscription *subscriptions;
};

static struct topics topics;
static struct client clients[CLIENTS];
static size_t in_use_before;

static struct subscription *subscriptions_of(struct client *client)
{
    return client->subscriptions;
}

static void set_up(void)
{
    in_use_before = mem_in_use();
    topics_init(&topics, subscriptions_of);
}

static void tear_down(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        topics_leave(&topics, &clients[i].subscriptions, 0, (struct span){0});
    topics_deinit(&topics);
    cr_assert_eq(mem_in_use(), in_use_before);
}

TestSuite(topics, .init = set_up, .fini = tear_down);

static int join(size_t client, uint64_t realm, struct span name)
{
    return topics_join(&topics, &clients[client], &clients[client].subscriptions, realm, name, 64);
}

static bool is_member(size_t client, uint64_t realm, struct span name)
{
    struct topic_members members = topics_members(&topics, realm, name);
    for (uint32_t i = 0; i < members.count; i++) {
        if (members.clients[i] == &clients[client])
            return true;
    }
    return false;
}

Test(topics, those_of_one_name_in_two_realms_are_two)
{
    const struct span name = SPAN("t");
    for (size_t i = 0; i < CLIENTS; i++)
        cr_assert_eq(join(i, i % 3, name), 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        for (uint64_t realm = 0; realm < 3; realm++)
            cr_assert_eq(is_member(i, realm, name), i % 3 == realm);
    }
    cr_assert_eq(topics_members(&topics, 3, name).count, 0u);
    for (size_t i = BLUE; i < CLIENTS; i += 3) {
        topics_leave(&topics, &clients[i].subscriptions, RED, name); /* which it has not joined */
        cr_assert(is_member(i, BLUE, name));
        topics_leave(&topics, &clients[i].subscriptions, BLUE, name);
        cr_assert_not(is_member(i, BLUE, name));
    }
    cr_assert_eq(topics_members(&topics, BLUE, name).count, 0u);
    cr_assert_eq(topics_members(&topics, 0, name).count, 17u);
    cr_assert_eq(topics_members(&topics, RED, name).count, 17u);
}

/* That of one realm and name is not made of another name's bytes. */
Test(topics, realm_and_name_are_told_apart)
{
    cr_assert_eq(join(0, 0x6161616161616161ULL, SPAN("aaaaaaaa")), 0);
    cr_assert_eq(topics_members(&topics, 0x6161616161616161ULL, SPAN("aaaaaaaa")).count, 1u);
    cr_assert_eq(topics_members(&topics, 0x6161616161616161ULL, SPAN("aaaaaaa")).count, 0u);
    cr_assert_eq(topics_members(&topics, 0x6161616161616161ULL, SPAN("aaaaaaaaa")).count, 0u);
    cr_assert_eq(topics_members(&topics, 0x6161616161616162ULL, SPAN("aaaaaaaa")).count, 0u);
    cr_assert_eq(topics_members(&topics, 0, SPAN("aaaaaaaaaaaaaaaa")).count, 0u);
}

Test(topics, names_and_limits)
{
    char name[TOPIC_NAME_MAX + 1];
    memset(name, 'n', sizeof(name));
    cr_assert_eq(join(0, RED, (struct span){name, 0}), TOPICS_E_NAME);
    cr_assert_eq(join(0, RED, (struct span){name, TOPIC_NAME_MAX + 1}), TOPICS_E_NAME);
    cr_assert_eq(join(0, RED, (struct span){name, TOPIC_NAME_MAX}), 0);
    cr_assert_eq(join(0, RED, (struct span){name, TOPIC_NAME_MAX}), 0, "once is enough");
    cr_assert_eq(topics_members(&topics, RED, (struct span){name, TOPIC_NAME_MAX}).count, 1u);
    cr_assert_eq(topics_members(&topics, RED, (struct span){name, TOPIC_NAME_MAX + 1}).count, 0u);
    topics_leave(&topics, &clients[0].subscriptions, RED, (struct span){name, TOPIC_NAME_MAX + 1});
    cr_assert_eq(topics_members(&topics, RED, (struct span){name, TOPIC_NAME_MAX}).count, 1u);
    for (size_t i = 1; i < 64; i++)
        cr_assert_eq(join(0, RED, (struct span){name, i}), 0);
    cr_assert_eq(join(0, RED, SPAN("one more")), TOPICS_E_LIMIT);
    mem_fail_after(0);
    cr_assert_eq(join(1, RED, SPAN("no memory")), -ENOMEM);
    mem_fail_after(-1);
    cr_assert_eq(topics_members(&topics, RED, SPAN("no memory")).count, 0u);
}

/* Saved in one realm, they are topics of the one in which they are restored. */
Test(topics, are_restored_in_the_realm_that_is_now)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    char longest[TOPIC_NAME_MAX];
    memset(longest, 'l', sizeof(longest));
    const struct span names[] = {SPAN("a"), SPAN("bb"), {longest, sizeof(longest)}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        cr_assert_eq(join(0, RED, names[i]), 0);
    topics_save(clients[0].subscriptions, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    cr_assert_eq(topics_restore(&topics, &clients[1], &clients[1].subscriptions, BLUE, &unpack), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        cr_expect(is_member(1, BLUE, names[i]) && !is_member(1, RED, names[i]));
        cr_expect(is_member(0, RED, names[i]) && !is_member(0, BLUE, names[i]));
    }
    buf_deinit(&state);
}

/* The number of the topic "n". */
static size_t number_of(struct span name)
{
    return (size_t)strtoul(name.p, NULL, 10);
}

/* Topics come and go at each step: those that stay are met once, and none that came later. */
Test(topics, all_of_them_are_listed)
{
    enum { TOPICS = 40 };
    for (size_t stop = 0; stop <= TOPICS; stop += 8) {
        struct topic_list list, other;
        struct topic_entry entry;
        unsigned met[2 * TOPICS] = {0};
        char name[8];
        for (size_t i = 0; i < TOPICS; i++) {
            int n = snprintf(name, sizeof(name), "%zu.", i);
            cr_assert_eq(join(i, BLUE, (struct span){name, (size_t)n}), 0);
        }
        topics_list(&topics, &list);
        topics_list(&topics, &other);
        for (size_t step = 0; topics_list_next(&list, &entry); step++) {
            cr_assert_eq(entry.realm, BLUE);
            cr_assert_eq(entry.members, 1);
            met[number_of(entry.name)]++;
            size_t gone = step == 0 ? 1 : step * 7 % TOPICS; /* the next one, at first */
            if (gone % 3 != 0) {
                topics_leave(&topics, &clients[gone].subscriptions, 0, (struct span){0});
                int n = snprintf(name, sizeof(name), "%zu.", TOPICS + gone);
                cr_assert_eq(join(gone, BLUE, (struct span){name, (size_t)n}), 0);
            }
            if (step == stop)
                topics_list_stop(&other);
        }
        for (size_t i = 0; i < TOPICS; i++) {
            cr_expect(met[i] == 1 || (i % 3 != 0 && met[i] == 0), "topic %zu: %u", i, met[i]);
            cr_expect_eq(met[TOPICS + i], 0, "it came later");
        }
        cr_expect(!topics_list_next(&list, &entry), "it is over");
        topics_list_stop(&other);
        for (size_t i = 0; i < CLIENTS; i++)
            topics_leave(&topics, &clients[i].subscriptions, 0, (struct span){0});
    }
    struct topic_list none;
    struct topic_entry entry;
    topics_list(&topics, &none);
    cr_expect(!topics_list_next(&none, &entry));
}

Test(topics, what_a_connection_has)
{
    cr_assert_eq(join(0, RED, SPAN("a")), 0);
    cr_assert_eq(join(0, RED, SPAN("bb")), 0);
    cr_expect_eq(topics_count(clients[0].subscriptions), 2);
    cr_expect_eq(topics_count(clients[1].subscriptions), 0);
    cr_expect(topics_has(clients[0].subscriptions, SPAN("a")));
    cr_expect(!topics_has(clients[0].subscriptions, SPAN("b")));
    cr_expect(!topics_has(clients[0].subscriptions, SPAN("aa")));
}
