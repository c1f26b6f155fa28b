#include <criterion/criterion.h>

#include "common/alloc.h"
#include "frontd/shard/client/client.h"
#include "frontd/shard/push/topics.h"

enum { MEMBERS = 40, WALKS = 5, STEPS = 200000 };

static struct topics topics;
static struct client clients[MEMBERS];
static struct subscription *subscriptions[MEMBERS];
static size_t in_use_before;

static struct subscription *of(struct client *client)
{
    return subscriptions[client - clients];
}

static void set_up(void)
{
    in_use_before = mem_in_use();
    topics_init(&topics, of);
}

static void tear_down(void)
{
    for (unsigned i = 0; i < MEMBERS; i++)
        topics_leave(&topics, &subscriptions[i], 0, (struct span){0});
    topics_deinit(&topics);
    cr_assert_eq(mem_in_use(), in_use_before);
}

TestSuite(topic_walks, .init = set_up, .fini = tear_down);

static void join(unsigned i, const char *name)
{
    cr_assert_eq(topics_join(&topics, &clients[i], &subscriptions[i], 0,
                     (struct span){name, strlen(name)}, 100),
        0);
}

static void leave(unsigned i, const char *name)
{
    topics_leave(&topics, &subscriptions[i], 0, (struct span){name, strlen(name)});
}

Test(topic_walks, a_walk_meets_everybody_once)
{
    struct topic_walk walk;
    bool met[MEMBERS] = {false};
    for (unsigned i = 0; i < MEMBERS; i++)
        join(i, "t");
    topics_walk(&topics, &walk, 0, SPAN("t"));
    for (struct client *client; (client = topics_next(&walk)) != NULL;) {
        cr_expect_not(met[client - clients]);
        met[client - clients] = true;
    }
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_expect(met[i]);
    cr_expect_null(topics_next(&walk));
    topics_stop(&walk);
}

Test(topic_walks, a_walk_ends_with_its_topic)
{
    struct topic_walk walk;
    topics_walk(&topics, &walk, 0, SPAN("nobody"));
    cr_expect_null(topics_next(&walk));
    join(1, "t");
    topics_walk(&topics, &walk, 0, SPAN("t"));
    leave(1, "t");
    join(2, "t"); /* another one of the same name */
    cr_expect_null(topics_next(&walk));
    topics_stop(&walk);
    topics_walk(&topics, &walk, 0, SPAN("t"));
    topics_stop(&walk);
    cr_expect_null(topics_next(&walk));
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/*
 * Members join, leave and are met in any order, with several walks under way: each walk meets those
 * members that were there when it began and have not left since, each once, and no others.
 */
Test(topic_walks, walks_as_a_model_has_them)
{
    struct topic_walk walks[WALKS] = {{0}};
    bool runs[WALKS] = {false};
    bool due[WALKS][MEMBERS] = {{false}};
    bool in[MEMBERS] = {false};
    size_t ended = 0;
    uint32_t random = 7;
    for (size_t step = 0; step < STEPS; step++) {
        unsigned i = next_random(&random) % MEMBERS;
        unsigned w = next_random(&random) % WALKS;
        switch (next_random(&random) % 8) {
        case 0:
        case 1:
            join(i, "t");
            join(i, "other"); /* which has other places */
            in[i] = true;
            break;
        case 2:
            leave(i, next_random(&random) % 2 ? "other" : "t");
            if (of(&clients[i]) != NULL && subscriptions[i]->next == NULL)
                join(i, "other");
            in[i] = false;
            leave(i, "t");
            for (unsigned k = 0; k < WALKS; k++)
                due[k][i] = false;
            break;
        case 3:
            if (runs[w])
                break;
            topics_walk(&topics, &walks[w], 0, SPAN("t"));
            memcpy(due[w], in, sizeof(in));
            runs[w] = true;
            break;
        default: {
            if (!runs[w])
                break;
            const struct client *client = topics_next(&walks[w]);
            bool any = false;
            for (unsigned k = 0; k < MEMBERS; k++)
                any |= due[w][k];
            cr_assert_eq(client != NULL, any, "step %zu", step);
            if (client == NULL) {
                runs[w] = false;
                ended++;
                break;
            }
            cr_assert(due[w][client - clients], "step %zu", step);
            due[w][client - clients] = false;
        }
        }
    }
    cr_assert_gt(ended, 100u);
    for (unsigned w = 0; w < WALKS; w++) {
        if (runs[w])
            topics_stop(&walks[w]);
    }
}
