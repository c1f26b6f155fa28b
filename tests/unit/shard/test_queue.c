#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "frontd/shard/upstream/queue.h"

enum { ITEMS = 400, WORKERS = 6 };

static struct slab slab;
static struct queue queue;
static struct queue_item items[ITEMS];

static void set_up(void)
{
    slab_init(&slab, queue_slab_size());
    cr_assert_eq(queue_init(&queue, &slab), 0);
    memset(items, 0, sizeof(items));
}

static void tear_down(void)
{
    struct queue_item *item;
    while ((item = queue_oldest(&queue)) != NULL)
        queue_remove(&queue, item);
    queue_deinit(&queue);
    slab_deinit(&slab);
    cr_assert_eq(mem_in_use(), (size_t)0);
}

TestSuite(queue, .init = set_up, .fini = tear_down);

/* workers: a bit for each. */
static struct queue_set set_of(unsigned workers)
{
    struct queue_set set = {0};
    for (uint32_t i = 0; i < WORKERS; i++) {
        if (workers >> i & 1)
            queue_set_add(&set, i);
    }
    return set;
}

static void add(unsigned n, uint64_t flow, unsigned workers, bool in_front, uint64_t now)
{
    struct queue_set set = set_of(workers);
    cr_assert_eq(queue_add(&queue, &items[n], flow, &set, in_front, now), 0);
}

static int serve(uint32_t worker, uint64_t now)
{
    struct queue_class *class = queue_first_of(&queue, worker);
    if (class == NULL)
        return -1;
    struct queue_item *item = queue_next(class);
    queue_serve(&queue, item, now);
    return (int)(item - items);
}

/*
 * What comes in order: "aXY", an item of flow X for the workers of set Y; "fXY", in front; "sW",
 * worker W takes one; "rN", the N-th item leaves. Items are numbered as they come. Then the order
 * in which worker 0, then worker 1, takes all that it may have.
 */
static const struct {
    const char *steps;
    const char *order;
} rows[] = {
    {"", ""},
    {"a11", "0"},
    {"a11 a11 a11", "0 1 2"},
    {"a11 a11 a11 a21 a31", "0 3 4 1 2"},
    {"a11 a11 a21 a21 a21", "0 2 1 3 4"},
    {"a11 a21 a11 a21", "0 1 2 3"},
    /* a flow that is served waits behind those that were there */
    {"a11 a11 a21 s0", "2 1"},
    {"a11 a11 a21 s0 a31", "2 1 3"},
    /* and one that comes back has its turn after those that waited meanwhile */
    {"a11 a21 a21 s0 a11", "1 3 2"},
    /* one that leaves without being served leaves its flow's place */
    {"a11 a11 a21 r0", "1 2"},
    {"a11 a21 r0 a11", "1 2"},
    {"a11 a11 a21 r2 r1", "0"},
    /* classes: each worker takes what it may have, the oldest first */
    {"a12 a21", "1 0"},
    {"a12 a13 a11", "1 2 0"},
    {"a11 a13 a23", "0 1 2"},
    {"a13 a21 a33", "0 1 2"},
    {"a12 a12 a12 a22 a11", "4 0 3 1 2"},
    /* in front: first of its flow, and the flow first */
    {"a11 a21 f31", "2 0 1"},
    {"a11 a21 a21 f21", "3 0 1 2"},
    {"a11 a21 f31 f41", "3 2 0 1"},
    {"f11", "0"},
    {"a12 f11 a11", "1 2 0"},
    /* of those that no worker takes none is ever next */
    {"a10 a11 a20", "1"},
};

Test(queue, order)
{
    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        unsigned count = 0;
        uint64_t now = 100;
        char order[64] = "";
        for (const char *p = rows[row].steps; *p != '\0'; p += *p == ' ') {
            unsigned a = (unsigned)(p[1] - '0');
            char step = *p;
            now++;
            if (step == 'a' || step == 'f') {
                add(count++, a, (unsigned)(p[2] - '0'), step == 'f', now);
                p += 3;
                continue;
            }
            if (step == 's')
                cr_assert_geq(serve(a, now), 0);
            else
                queue_remove(&queue, &items[a]);
            p += 2;
        }
        for (uint32_t worker = 0; worker < 2; worker++) {
            int n;
            while ((n = serve(worker, ++now)) >= 0)
                snprintf(order + strlen(order), sizeof(order) - strlen(order), "%s%d",
                    order[0] == '\0' ? "" : " ", n);
        }
        cr_assert_str_eq(
            order, rows[row].order, "%s: %s, not %s", rows[row].steps, order, rows[row].order);
        while (queue_oldest(&queue) != NULL)
            queue_remove(&queue, queue_oldest(&queue));
    }
}

Test(queue, turns_are_since_when_a_flow_waits)
{
    add(0, 1, 1, false, 10);
    add(1, 1, 1, false, 12);
    add(2, 2, 2, false, 15);
    cr_assert_eq(queue_turn(queue_first(&queue)), 10u);
    cr_assert_eq(serve(0, 30), 0);
    cr_assert_eq(queue_turn(queue_first(&queue)), 15u, "flow 1 was served at 30");
    cr_assert_eq(queue_turn(queue_first_of(&queue, 0)), 30u);
    cr_assert_eq(queue_oldest(&queue), &items[1]);
    queue_remove(&queue, &items[2]);
    cr_assert_eq(queue_turn(queue_first(&queue)), 30u);
    add(3, 2, 0, false, 40);
    cr_assert_eq(queue_untaken(&queue), &items[3]);
    queue_remove(&queue, &items[1]);
    cr_assert_null(queue_first(&queue));
    cr_assert_eq(queue.count, 1u);
}

Test(queue, largest)
{
    struct queue_item *newest;
    cr_assert_eq(queue_largest(&queue, &newest), 0u);
    add(0, 1, 1, false, 1);
    add(1, 2, 1, false, 2);
    add(2, 2, 2, false, 3);
    cr_assert_eq(queue_largest(&queue, &newest), 2u);
    cr_assert_eq(newest, &items[2], "its newest, of whatever class");
    for (unsigned n = 3; n < 103; n++)
        add(n, 3, n % 4, false, n);
    cr_assert_eq(queue_largest(&queue, &newest), 100u);
    cr_assert_eq(newest, &items[102]);
    for (unsigned n = 102; n > 3; n--) {
        cr_assert_eq(queue_flow_count(&queue, 3), n - 2);
        uint32_t largest = queue_largest(&queue, &newest);
        cr_assert(largest > (n - 2) / 2, "within a factor of two");
        queue_remove(&queue, &items[n]);
    }
    cr_assert_eq(queue_largest(&queue, &newest), 2u);
    cr_assert_eq(newest, &items[2]);
    cr_assert_eq(queue_flow_count(&queue, 4), 0u);
}

/* Workers come and go. An item's kind is the workers that would take it. */

static unsigned alive;
static unsigned kinds[ITEMS];

static void set_of_alive(const struct queue_item *item, struct queue_set *ret_set, void *data)
{
    (void)data;
    *ret_set = set_of(kinds[item - items] & alive);
}

static void change(unsigned workers)
{
    struct list failed;
    list_init(&failed);
    alive = workers;
    queue_reclass(&queue, set_of_alive, NULL, &failed);
    cr_assert(list_empty(&failed));
}

static void come(unsigned n, uint64_t flow, unsigned kind, uint64_t now)
{
    kinds[n] = kind;
    add(n, flow, kind & alive, false, now);
}

Test(queue, workers_come_and_go)
{
    alive = 1;
    come(0, 1, 1, 10);
    come(1, 1, 3, 11);
    come(2, 2, 2, 12);
    come(3, 1, 2, 13);
    come(4, 3, 1, 14);
    cr_assert_eq(queue_untaken(&queue), &items[2]);
    cr_assert_eq(serve(0, 20), 0);
    change(3); /* flow 1 waits since 13 for worker 1, and since 20 for worker 0 */
    cr_assert_null(queue_untaken(&queue));
    cr_assert_eq(queue_turn(queue_first_of(&queue, 1)), 12u);
    cr_assert_eq(serve(1, 21), 2);
    change(0);
    cr_assert_null(queue_first(&queue));
    cr_assert_eq(queue_untaken(&queue), &items[1]);
    change(2);
    cr_assert_eq(serve(1, 22), 1);
    cr_assert_eq(serve(1, 23), 3);
    cr_assert_eq(serve(1, 24), -1);
    cr_assert_eq(queue_untaken(&queue), &items[4]);
    change(1);
    cr_assert_eq(serve(0, 25), 4);
}

/* The flow that is next, as a list of all that has happened would have it. */

struct model_item {
    bool there;
    uint64_t flow;
    unsigned set;
    int64_t place; /* in its flow */
};

enum { FLOWS = 12 };

static struct model_item model[ITEMS];
static uint64_t model_turns[FLOWS][1 << WORKERS]; /* of each lane; 0: there is none */
static int64_t model_places[FLOWS][1 << WORKERS]; /* among the lanes of its class */
static int64_t back, front;

static bool has_lane(uint64_t flow, unsigned set)
{
    for (unsigned n = 0; n < ITEMS; n++) {
        if (model[n].there && model[n].flow == flow && model[n].set == set)
            return true;
    }
    return false;
}

static void model_lane(uint64_t flow, unsigned set, uint64_t turn)
{
    if (set == 0 || has_lane(flow, set))
        return;
    model_turns[flow][set] = turn;
    model_places[flow][set] = back++;
}

/* The first lane of a class, as its flow; -1: it has none. */
static int model_first(unsigned set)
{
    int best = -1;
    for (int flow = 0; flow < FLOWS; flow++) {
        if (has_lane((uint64_t)flow, set) &&
            (best < 0 || model_places[flow][set] < model_places[best][set]))
            best = flow;
    }
    return best;
}

static int model_head(uint64_t flow, unsigned set)
{
    int best = -1;
    for (int n = 0; n < ITEMS; n++) {
        if (model[n].there && model[n].flow == flow && model[n].set == set &&
            (best < 0 || model[n].place < model[best].place))
            best = n;
    }
    return best;
}

static void model_add(unsigned n, uint64_t flow, unsigned set, bool in_front, uint64_t now)
{
    model_lane(flow, set, now);
    if (in_front && set != 0) {
        int first = model_first(set);
        if (first >= 0)
            model_turns[flow][set] = MIN(model_turns[flow][set], model_turns[first][set]);
        model_places[flow][set] = front--;
    }
    model[n] = (struct model_item){true, flow, set, in_front ? front-- : back++};
}

/* What the queue gives a worker is what the model does. Returns the item, or -1. */
static int check_next(uint32_t worker)
{
    uint64_t turn = UINT64_MAX;
    for (unsigned set = 1; set < 1 << WORKERS; set++) {
        int flow = set >> worker & 1 ? model_first(set) : -1;
        if (flow >= 0)
            turn = MIN(turn, model_turns[flow][set]);
    }
    const struct queue_class *class = queue_first_of(&queue, worker);
    if (turn == UINT64_MAX) {
        cr_assert_null(class);
        return -1;
    }
    cr_assert_not_null(class);
    cr_assert_eq(queue_turn(class), turn);
    int n = (int)(queue_next(class) - items);
    unsigned set = model[n].set; /* of two that have waited as long either is right */
    int flow = model_first(set);
    cr_assert(set >> worker & 1);
    cr_assert_eq(model[n].flow, (uint64_t)flow);
    cr_assert_eq(n, model_head((uint64_t)flow, set));
    cr_assert_eq(model_turns[flow][set], turn);
    return n;
}

static void model_reclass(void)
{
    bool done[FLOWS] = {false};
    uint64_t since[FLOWS];
    for (int flow = 0; flow < FLOWS; flow++) {
        since[flow] = UINT64_MAX;
        for (int n = 0; n < ITEMS; n++) {
            if (model[n].there && model[n].flow == (uint64_t)flow)
                since[flow] = MIN(since[flow],
                    model[n].set == 0 ? items[n].since : model_turns[flow][model[n].set]);
        }
    }
    for (int i = 0; i < FLOWS; i++) {
        int next = -1;
        for (int flow = 0; flow < FLOWS; flow++) {
            if (!done[flow] && (next < 0 || since[flow] < since[next]))
                next = flow;
        }
        done[next] = true;
        for (int n = 0; n < ITEMS; n++) {
            if (!model[n].there || model[n].flow != (uint64_t)next)
                continue;
            model[n].set = kinds[n] & alive;
            model_turns[next][model[n].set] = since[next];
            model_places[next][model[n].set] = back;
        }
        back++;
    }
}

static void check_class(const struct queue_class *class)
{
    uint32_t of_flow[FLOWS] = {0};
    uint32_t count = 0;
    uint32_t flows = 0;
    unsigned set = (unsigned)class->set.words[0];
    for (unsigned n = 0; n < ITEMS; n++) {
        if (!model[n].there || model[n].set != set)
            continue;
        count++;
        flows += of_flow[model[n].flow]++ == 0;
    }
    cr_assert(class->count == count && class->nlanes == flows);
    for (unsigned n = 0; n < ITEMS; n++) {
        if (model[n].there && model[n].set == set)
            cr_assert_eq(queue_is_only(&items[n]), of_flow[model[n].flow] == 1);
    }
}

static void check_counts(void)
{
    for (uint32_t i = 0; i < queue.nclasses; i++)
        check_class(queue.heap[i]);
    uint32_t counts[FLOWS] = {0};
    uint32_t all = 0;
    uint32_t most = 0;
    uint32_t spare = 0;
    struct queue_item *newest = NULL;
    for (unsigned n = 0; n < ITEMS; n++) {
        counts[model[n].flow] += model[n].there;
        all += model[n].there;
    }
    for (uint64_t flow = 0; flow < FLOWS; flow++) {
        cr_assert_eq(queue_flow_count(&queue, flow), counts[flow]);
        most = MAX(most, counts[flow]);
        spare += counts[flow] == 0 ? 0 : counts[flow] - 1;
    }
    cr_assert_eq(queue.count, all);
    cr_assert_eq(queue_spare(&queue), spare);
    uint32_t largest = queue_largest(&queue, &newest);
    cr_assert(largest <= most && 2 * largest >= most);
    if (all == 0)
        return;
    const struct model_item *one = &model[newest - items];
    for (unsigned n = 0; n < ITEMS; n++)
        cr_assert(!model[n].there || model[n].flow != one->flow || model[n].place <= one->place);
}

static uint32_t random_state = 4711;

static uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % n;
}

/* changes: workers come and go; else items come back in front. */
static void run(bool changes, unsigned steps)
{
    static const unsigned kinds_of[] = {1, 2, 3, 4, 12, 48, 63, 32};
    uint64_t now = 1;
    alive = (1 << WORKERS) - 1;
    for (unsigned step = 0; step < steps; step++, now++) {
        unsigned n = below(ITEMS);
        bool fills = step / 1000 % 2 == 0; /* now mostly coming, now mostly going */
        if (changes && step % 97 == 0) {
            alive = below(1 << WORKERS);
            change(alive);
            model_reclass();
        } else if (!model[n].there && below(4) < (fills ? 3 : 1)) {
            kinds[n] = kinds_of[below(ARRAY_LEN(kinds_of))];
            uint64_t flow = below(3) == 0 ? 0 : below(FLOWS);
            bool in_front = !changes && below(5) == 0;
            add(n, flow, kinds[n] & alive, in_front, now);
            model_add(n, flow, kinds[n] & alive, in_front, now);
        } else if (model[n].there && below(8) == 0) {
            queue_remove(&queue, &items[n]);
            model[n].there = false;
        } else {
            int next = check_next(below(WORKERS));
            if (next >= 0) {
                queue_serve(&queue, &items[next], now);
                model[next].there = false;
                model_turns[model[next].flow][model[next].set] = now;
                model_places[model[next].flow][model[next].set] = back++;
            }
        }
        if (step % 64 == 0)
            check_counts();
    }
}

Test(queue, as_a_model_has_it, .timeout = 120)
{
    run(false, 100000);
}

Test(queue, as_a_model_has_it_while_workers_come_and_go, .timeout = 120)
{
    run(true, 100000);
}

/* Without memory an item is left out, and all others are as before. */
Test(queue, no_memory)
{
    for (long fail = 0; fail < 4; fail++) {
        struct queue_set set = set_of(1);
        mem_fail_after(fail);
        int r = queue_add(&queue, &items[0], 1, &set, false, 1);
        mem_fail_after(-1);
        cr_assert(r == 0 || queue.count == 0);
        if (r == 0)
            queue_remove(&queue, &items[0]);
        cr_assert_eq(slab.used, (size_t)0);
    }
}

Test(queue, no_memory_while_workers_change)
{
    for (long fail = 0; fail < 60; fail++) {
        struct list failed;
        unsigned lost = 0;
        list_init(&failed);
        alive = 1;
        for (unsigned n = 0; n < 20; n++)
            come(n, n % 5, 1 + n % 3, n + 1);
        alive = 3;
        mem_fail_after(fail);
        queue_reclass(&queue, set_of_alive, NULL, &failed);
        mem_fail_after(-1);
        list_for_each_safe (node, &failed) {
            list_remove(node);
            lost++;
        }
        cr_assert_eq(queue.count, 20 - lost);
        unsigned served = 0;
        for (uint32_t worker = 0; worker < 2; worker++) {
            while (serve(worker, 100) >= 0)
                served++;
        }
        cr_assert_eq(served, 20 - lost);
        cr_assert_eq(slab.used, (size_t)0);
    }
}

Test(queue, the_last_worker_number)
{
    struct queue_set set = {0};
    queue_set_add(&set, QUEUE_WORKERS_MAX - 1);
    cr_assert_eq(queue_add(&queue, &items[0], 1, &set, false, 1), 0);
    cr_assert_null(queue_first_of(&queue, 0));
    cr_assert_null(queue_first_of(&queue, QUEUE_WORKERS_MAX - 2));
    cr_assert_not_null(queue_first_of(&queue, QUEUE_WORKERS_MAX - 1));
    cr_assert_not_null(queue_find(&queue, &set));
}
