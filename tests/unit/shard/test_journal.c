#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/mesh/journal.h"

enum { PUSHES_MAX = 4096, BYTES_MAX = FRAME_HEAD_SIZE + 64 };

static size_t in_use_before;
static struct journal journal;
static struct {
    uint64_t numbers[PUSHES_MAX]; /* of the pushes, in the order in which they came */
    size_t count;
} replayed;

static void set_up(void)
{
    in_use_before = mem_in_use();
    journal_init(&journal);
}

static void tear_down(void)
{
    journal_record(&journal, JOURNAL_RECEIVER, false);
    cr_assert_eq(journal_size(&journal), 0);
    cr_assert_eq(mem_in_use(), in_use_before, "all memory is given back");
}

TestSuite(journal, .init = set_up, .fini = tear_down);

/* A push with its number as `conn` and so many bytes of body. */
static int add(unsigned seat, struct position position, uint64_t number, uint32_t n)
{
    char bytes[BYTES_MAX];
    struct frame frame;
    size_t used;
    struct frame_head head = {.type = FRAME_PUSH, .conn = number, .length = n};
    frame_head_write(&head, (uint8_t *)bytes);
    memset(bytes + FRAME_HEAD_SIZE, (char)number, n);
    cr_assert_eq(frame_read(bytes, sizeof(bytes), FRAME_MAX_DEFAULT, &frame, &used), 0);
    int r = journal_add(&journal, seat, position, number * 3, &frame);
    memset(bytes, 0, sizeof(bytes)); /* a copy is kept */
    return r;
}

static void on_replay(struct ctx *ctx, uint64_t realm, const struct frame *frame)
{
    cr_assert_eq(realm, frame->head.conn * 3, "it is kept");
    cr_assert_eq((void *)ctx, (void *)&replayed);
    cr_assert_lt(replayed.count, (size_t)PUSHES_MAX);
    cr_assert_eq(frame->head.type, FRAME_PUSH);
    for (size_t i = 0; i < frame->body.n; i++)
        cr_assert_eq(frame->body.p[i], (char)frame->head.conn);
    replayed.numbers[replayed.count++] = frame->head.conn;
}

static void replay(const struct positions *heard)
{
    replayed.count = 0;
    journal_replay(&journal, heard, on_replay, (struct ctx *)(void *)&replayed);
}

static void expect_replayed(const struct positions *heard, const uint64_t *wanted, size_t n)
{
    replay(heard);
    cr_assert_eq(replayed.count, n, "%zu, not %zu", replayed.count, n);
    cr_assert(n == 0 || memcmp(replayed.numbers, wanted, n * sizeof(*wanted)) == 0);
}

Test(journal, positions)
{
    static const struct {
        struct position a, b;
        bool before;
    } cases[] = {
        {{0, 0}, {0, 0}, false},
        {{0, 0}, {1, 0}, true},
        {{1, 0}, {0, 0}, false},
        {{1, 5}, {1, 5}, false},
        {{1, 5}, {1, 6}, true},
        {{1, 6}, {1, 5}, false},
        {{1, UINT64_MAX}, {2, 0}, true},
        {{2, 0}, {1, UINT64_MAX}, false},
        {{2, 7}, {1, 3}, false},
        {{UINT64_MAX, 0}, {UINT64_MAX, UINT64_MAX}, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        cr_expect_eq(position_before(cases[i].a, cases[i].b), cases[i].before, "case %zu", i);
}

Test(journal, keeps_nothing_unless_told)
{
    static const struct positions nothing;
    cr_assert_eq(add(1, (struct position){1, 1}, 1, 8), 0);
    cr_assert_eq(journal_size(&journal), 0);
    expect_replayed(&nothing, NULL, 0);
    journal_record(&journal, JOURNAL_RECEIVER, true);
    cr_assert_eq(add(1, (struct position){1, 2}, 2, 8), 0);
    cr_assert_eq(journal_size(&journal), (size_t)FRAME_HEAD_SIZE + 8);
    journal_record(&journal, JOURNAL_RECEIVER, true); /* what is kept stays */
    expect_replayed(&nothing, (uint64_t[]){2}, 1);
    journal_record(&journal, JOURNAL_RECEIVER, false);
    cr_assert_eq(journal_size(&journal), 0);
    expect_replayed(&nothing, NULL, 0);
    cr_assert_eq(add(1, (struct position){1, 3}, 3, 8), 0);
    expect_replayed(&nothing, NULL, 0);
    journal_record(&journal, JOURNAL_RECEIVER, true);
    expect_replayed(&nothing, NULL, 0);
}

Test(journal, gives_what_is_new_in_order)
{
    struct positions heard = {0};
    journal_record(&journal, JOURNAL_RECEIVER, true);
    cr_assert_eq(add(3, (struct position){7, 1}, 1, 0), 0);
    cr_assert_eq(add(0, (struct position){9, 1}, 2, 1), 0);
    cr_assert_eq(add(3, (struct position){7, 2}, 3, 64), 0);
    cr_assert_eq(add(SHARE_SEATS - 1, (struct position){1, 50}, 4, 3), 0);
    cr_assert_eq(add(3, (struct position){12, 1}, 5, 0), 0); /* another process on that seat */
    expect_replayed(&heard, (uint64_t[]){1, 2, 3, 4, 5}, 5);
    heard.of[3] = (struct position){7, 1};
    expect_replayed(&heard, (uint64_t[]){2, 3, 4, 5}, 4);
    heard.of[3] = (struct position){7, 1000};
    expect_replayed(&heard, (uint64_t[]){2, 4, 5}, 3);
    heard.of[3] = (struct position){12, 0};
    expect_replayed(&heard, (uint64_t[]){2, 4, 5}, 3);
    heard.of[3] = (struct position){12, 1};
    heard.of[SHARE_SEATS - 1] = (struct position){1, 49};
    expect_replayed(&heard, (uint64_t[]){2, 4}, 2);
    heard.of[0] = (struct position){8, UINT64_MAX};
    expect_replayed(&heard, (uint64_t[]){2, 4}, 2);
    heard.of[0] = (struct position){10, 0};
    expect_replayed(&heard, (uint64_t[]){4}, 1);
}

Test(journal, drops_what_was_heard)
{
    static const struct positions nothing;
    struct positions heard = {0};
    size_t one = FRAME_HEAD_SIZE + 10;
    journal_record(&journal, JOURNAL_RECEIVER, true);
    for (uint64_t i = 1; i <= 100; i++)
        cr_assert_eq(add(i % 2, (struct position){1, i}, i, 10), 0);
    cr_assert_eq(journal_size(&journal), 100 * one);
    journal_trim(&journal, &heard);
    cr_assert_eq(journal_size(&journal), 100 * one);
    heard.of[0] = (struct position){1, 98};
    journal_trim(&journal, &heard);
    cr_assert_eq(journal_size(&journal), 51 * one, "50 of the other seat, and one");
    heard.of[0] = (struct position){0};
    heard.of[1] = (struct position){1, 97};
    journal_trim(&journal, &heard);
    expect_replayed(&nothing, (uint64_t[]){99, 100}, 2);
    heard.of[0] = heard.of[1] = (struct position){2, 0};
    journal_trim(&journal, &heard);
    cr_assert_eq(journal_size(&journal), 0);
    cr_assert_eq(mem_in_use(), in_use_before);
    cr_assert_eq(add(0, (struct position){2, 1}, 101, 10), 0, "it still records");
    expect_replayed(&nothing, (uint64_t[]){101}, 1);
}

Test(journal, without_memory)
{
    static const struct positions nothing;
    journal_record(&journal, JOURNAL_RECEIVER, true);
    cr_assert_eq(add(0, (struct position){1, 1}, 1, 8), 0);
    mem_fail_after(0);
    cr_assert_eq(add(0, (struct position){1, 2}, 2, 8), -ENOMEM);
    mem_fail_after(-1);
    cr_assert_eq(journal_size(&journal), (size_t)FRAME_HEAD_SIZE + 8);
    cr_assert_eq(add(0, (struct position){1, 3}, 3, 8), 0);
    expect_replayed(&nothing, (uint64_t[]){1, 3}, 2);
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Random pushes of a few seats, on which processes change now and then, against a plain array. */
Test(journal, as_a_model_has_it)
{
    enum { SEATS = 4, STEPS = 20000 };
    static struct {
        unsigned seat;
        struct position position;
        uint64_t number;
        size_t n;
        bool kept;
    } model[STEPS];
    struct position now[SEATS] = {{0}};
    size_t count = 0;
    size_t first = 0; /* before it none is kept */
    uint32_t random = 99;
    journal_record(&journal, JOURNAL_RECEIVER, true);
    for (uint64_t step = 0; step < STEPS; step++) {
        unsigned seat = next_random(&random) % SEATS;
        struct positions heard = {0};
        if (next_random(&random) % 50 == 0)
            now[seat] = (struct position){now[seat].incarnation + 1, 0};
        now[seat].seq++;
        size_t n = next_random(&random) % 64;
        model[count].seat = seat;
        model[count].position = now[seat];
        model[count].number = step;
        model[count].n = FRAME_HEAD_SIZE + n;
        model[count++].kept = true;
        cr_assert_eq(add(seat, now[seat], step, (uint32_t)n), 0);
        if (next_random(&random) % 20 != 0)
            continue;
        for (unsigned i = 0; i < SEATS; i++) { /* somewhere behind */
            heard.of[i] = now[i];
            heard.of[i].incarnation -= MIN(now[i].incarnation, next_random(&random) % 2);
            heard.of[i].seq -= MIN(now[i].seq, next_random(&random) % 16);
        }
        bool trims = next_random(&random) % 2;
        size_t size = 0;
        size_t k = 0;
        replay(&heard);
        if (trims)
            journal_trim(&journal, &heard);
        for (size_t i = first; i < count; i++) {
            bool later = position_before(heard.of[model[i].seat], model[i].position);
            if (model[i].kept && later)
                cr_assert_eq(replayed.numbers[k++], model[i].number);
            model[i].kept = model[i].kept && (later || !trims);
            size += model[i].kept ? model[i].n : 0;
            first += i == first && !model[i].kept;
        }
        cr_assert_eq(k, replayed.count);
        cr_assert_eq(journal_size(&journal), size);
    }
}

/* The connections that wait for them do not move: the oldest go, and are counted. */
Test(journal, is_bounded)
{
    static char bytes[FRAME_HEAD_SIZE + (1 << 20)];
    struct frame frame;
    size_t used;
    const size_t one = 1 << 20;
    const struct frame_head head = {
        .type = FRAME_PUSH, .length = (uint32_t)(one - FRAME_HEAD_SIZE)};
    frame_head_write(&head, (uint8_t *)bytes);
    cr_assert_eq(frame_read(bytes, one, FRAME_MAX_DEFAULT, &frame, &used), 0);
    journal_record(&journal, JOURNAL_RECEIVER, true);
    cr_assert_eq(add(0, (struct position){1, 1}, 1, 0), 0);
    cr_assert_eq(add(0, (struct position){1, 2}, 2, (uint32_t)(one - 2 * FRAME_HEAD_SIZE) % 64), 0);
    size_t first = journal_size(&journal);
    uint64_t n = (JOURNAL_MOST - first) / one;
    for (uint64_t i = 0; i < n; i++)
        cr_assert_eq(journal_add(&journal, 1, (struct position){1, i}, 0, &frame), 0);
    cr_assert_eq(journal_dropped(&journal), 0u);
    cr_assert_eq(journal_size(&journal), first + n * one);
    cr_assert_eq(journal_add(&journal, 1, (struct position){1, n}, 0, &frame), 0);
    cr_assert_eq(journal_size(&journal), (n + 1) * one, "as much as may be");
    cr_assert_eq(journal_dropped(&journal), 2u, "the two small ones");
    cr_assert_eq(journal_dropped(&journal), 0u, "since it was last asked");
    cr_assert_eq(journal_add(&journal, 1, (struct position){1, n + 1}, 0, &frame), 0);
    cr_assert_eq(journal_size(&journal), (n + 1) * one);
    cr_assert_eq(journal_dropped(&journal), 1u);
}
