#include <criterion/criterion.h>
#include <time.h>

#include "common/alloc.h"
#include "frontd/shard/net/outqueue.h"

/* A queue beside the plainest thing that does the same. */

enum { MODEL_MAX = 4096 };

struct model {
    struct {
        uint32_t number;
        uint32_t len;
        bool push;
    } items[MODEL_MAX];
    size_t count;
    size_t written;
};

static struct message *numbered(uint32_t number, size_t len, bool push)
{
    struct message *message = message_new(len, push);
    cr_assert_not_null(message);
    memset(message->bytes, 0, len);
    memcpy(message->bytes, &number, sizeof(number));
    return message;
}

static void add(struct message_queue **queue, uint32_t number, size_t len, bool push)
{
    struct message *message = numbered(number, len, push);
    cr_assert_eq(message_queue_add(queue, message), 0);
    message_unref(message);
}

static size_t model_bytes(const struct model *model)
{
    size_t n = 0;
    for (size_t i = 0; i < model->count; i++)
        n += model->items[i].len;
    return n - model->written;
}

static void model_take(struct model *model, size_t i)
{
    model->count--;
    memmove(model->items + i, model->items + i + 1, (model->count - i) * sizeof(model->items[0]));
}

static void model_written(struct model *model, size_t n)
{
    n += model->written;
    while (model->count > 0 && n >= model->items[0].len) {
        n -= model->items[0].len;
        model_take(model, 0);
    }
    model->written = n;
}

static size_t model_cost(const struct model *model)
{
    return model_bytes(model) + model->count * MESSAGE_OVERHEAD;
}

static size_t model_drop(struct model *model, size_t limit)
{
    size_t dropped = 0;
    for (size_t i = 0; i < model->count && model_cost(model) > limit;) {
        if (model->items[i].push && (i > 0 || model->written == 0)) {
            model_take(model, i);
            dropped++;
        } else {
            i++;
        }
    }
    return dropped;
}

static void compare(const struct message_queue *queue, const struct model *model)
{
    if (model->count == 0) {
        cr_assert_null(queue);
        return;
    }
    cr_assert_eq(queue->count, model->count);
    cr_assert_eq(queue->bytes, model_bytes(model));
    cr_assert_eq(message_queue_cost(queue), model_cost(model));
    cr_assert_eq(queue->written, model->written);
    for (uint32_t i = 0; i < queue->count; i++) {
        uint32_t number;
        memcpy(&number, queue->items[queue->first + i]->bytes, sizeof(number));
        cr_assert_eq(number, model->items[i].number);
    }
}

Test(message, random_steps_are_as_in_a_plain_model)
{
    static struct model model;
    for (unsigned seed = 0; seed < 40; seed++) {
        struct message_queue *queue = NULL;
        uint64_t random = seed * 2 + 1;
        uint32_t number = 0;
        model.count = model.written = 0;
        for (int step = 0; step < 3000; step++) {
            random = random * 6364136223846793005ULL + 1442695040888963407ULL;
            unsigned dice = (unsigned)(random >> 40);
            size_t bytes = model_bytes(&model);
            size_t cost = model_cost(&model);
            if (dice % 8 < 5 && model.count < MODEL_MAX) {
                bool push = dice / 8 % 10 >= seed % 10; /* none to nearly all are answers */
                uint32_t len = 4 + dice / 128 % 60;
                add(&queue, ++number, len, push);
                model.items[model.count].number = number;
                model.items[model.count].len = len;
                model.items[model.count++].push = push;
            } else if (dice % 8 < 7 && queue != NULL) {
                size_t limit = (dice / 8) % (cost + cost / 4 + 1);
                cr_assert_eq(message_queue_drop(&queue, limit), model_drop(&model, limit));
            } else if (queue != NULL) {
                size_t n = 1 + (dice / 8) % MIN(bytes, (size_t)200);
                message_queue_written(&queue, n);
                model_written(&model, n);
            }
            compare(queue, &model);
        }
        message_queue_free(&queue);
    }
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* CPU of 20,000 messages, each of which pushes the oldest one out of a queue of so many. */
static double cost_when_full(uint32_t count)
{
    struct message_queue *queue = NULL;
    struct message *message = message_new(100, true);
    cr_assert_not_null(message);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(message_queue_add(&queue, message), 0);
    double start = cpu_seconds();
    for (int i = 0; i < 20000; i++) {
        cr_assert_eq(message_queue_drop(&queue, message_queue_cost(queue) - 1), 1);
        cr_assert_eq(message_queue_add(&queue, message), 0);
    }
    double took = cpu_seconds() - start;
    message_queue_free(&queue);
    message_unref(message);
    return took;
}

Test(message, a_drop_costs_no_more_in_a_long_queue)
{
    double few = cost_when_full(100);
    double many = cost_when_full(20000);
    cr_assert_lt(many, few * 30 + 0.01, "%g s in a long queue, %g s in a short one", many, few);
}

static struct restored_messages restored;

static struct message_queue *restored_from(const struct buf *saved)
{
    struct message_queue *queue = NULL;
    struct unpack unpack = {.left = {buf_data(saved), buf_len(saved)}};
    cr_assert_eq(message_queue_restore(&restored, &queue, &unpack), 0);
    return queue;
}

/* What many wait for was pushed once, and is in memory once where they arrive, too. */
Test(message, restored_pushes_are_shared)
{
    enum { COUNT = 3 };
    struct message_queue *queue = NULL;
    struct buf saved = {0};
    struct pack pack = {.out = &saved};
    add(&queue, 1, 1000, true);
    add(&queue, 2, 1000, true); /* as long, and the same but for a few bytes */
    add(&queue, 3, 1000, false);
    message_queue_save(queue, &pack);
    message_queue_free(&queue);
    struct message_queue *first = restored_from(&saved);
    struct message_queue *second = restored_from(&saved);
    cr_expect_neq(first->items[0], first->items[1]);
    for (size_t i = 0; i < COUNT; i++) {
        cr_expect_eq(first->items[i] == second->items[i], i < 2, "message %zu", i);
        cr_expect_eq(memcmp(first->items[i]->bytes, second->items[i]->bytes, 1000), 0);
    }
    message_forget_restored(&restored);
    struct message_queue *third = restored_from(&saved);
    for (size_t i = 0; i < COUNT; i++)
        cr_expect_neq(first->items[i], third->items[i]);
    message_queue_free(&first);
    message_queue_free(&second);
    message_queue_free(&third);
    message_forget_restored(&restored);
    buf_deinit(&saved);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

/* Messages that are all different: what is kept for others to come is bounded. */
Test(message, restored_pushes_are_not_kept_for_ever)
{
    enum { COUNT = 100, SIZE = 1 << 20 };
    for (uint32_t i = 0; i < COUNT; i++) {
        struct message_queue *queue = NULL;
        struct buf saved = {0};
        struct pack pack = {.out = &saved};
        add(&queue, i, SIZE, true);
        message_queue_save(queue, &pack);
        message_queue_free(&queue);
        queue = restored_from(&saved);
        message_queue_free(&queue);
        buf_deinit(&saved);
        cr_assert_leq(mem_in_use(), (size_t)18 * SIZE);
    }
    message_forget_restored(&restored);
    cr_expect_eq(mem_in_use(), (size_t)0);
}
