/*
 * An item is in three lists: of all items, of its flow, and of its *lane*, which has the items of
 * one flow and one class. A class has its lanes in the order of their turns: a lane is added at the
 * end when its first item comes, and goes to the end again, with the present time as its turn, when
 * it has been served. Classes are in a heap by the turn of their first lanes.
 *
 * A flow with items in several classes has a turn in each.
 */

#include "frontd/shard/upstream/queue.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"

struct queue_flow {
    struct idmap_node node;
    struct list same_size; /* in queue->sizes */
    struct list items;
    uint64_t mark; /* of the last queue_reclass() that has seen to it */
    uint32_t count;
};

struct queue_lane {
    struct idmap_node node;
    struct list in_class;
    struct list items;
    struct queue_flow *flow;
    struct queue_class *class;
    uint64_t turn; /* ms */
};

size_t queue_slab_size(void)
{
    return MAX(sizeof(struct queue_flow), sizeof(struct queue_lane));
}

int queue_init(struct queue *queue, struct slab *slab)
{
    *queue = (struct queue){.slab = slab};
    list_init(&queue->arrival);
    list_init(&queue->untaken);
    for (size_t i = 0; i < QUEUE_SIZES; i++)
        list_init(&queue->sizes[i]);
    int r = idmap_init(&queue->flows);
    if (r == 0)
        r = idmap_init(&queue->lanes);
    if (r == 0)
        r = idmap_init(&queue->classes);
    return r;
}

void queue_deinit(struct queue *queue)
{
    CHECK(queue->count == 0 && queue->nclasses == 0);
    idmap_deinit(&queue->flows);
    idmap_deinit(&queue->lanes);
    idmap_deinit(&queue->classes);
    queue->heap = mem_free(queue->heap);
}

static struct queue_lane *first_lane(const struct queue_class *class)
{
    return list_first(&class->lanes, struct queue_lane, in_class);
}

uint64_t queue_turn(const struct queue_class *class)
{
    return first_lane(class)->turn;
}

/* The heap */

static void heap_put(struct queue *queue, uint32_t at, struct queue_class *class)
{
    queue->heap[at] = class;
    class->at = at;
}

/* Moves a class to where it belongs: its turn has changed, or it is new at its place. */
static void heap_fix(struct queue *queue, struct queue_class *class)
{
    uint64_t turn = queue_turn(class);
    uint32_t at = class->at;
    while (at > 0 && queue_turn(queue->heap[(at - 1) / 2]) > turn) {
        heap_put(queue, at, queue->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (uint32_t child; (child = 2 * at + 1) < queue->nclasses; at = child) {
        if (child + 1 < queue->nclasses &&
            queue_turn(queue->heap[child + 1]) < queue_turn(queue->heap[child]))
            child++;
        if (queue_turn(queue->heap[child]) >= turn)
            break;
        heap_put(queue, at, queue->heap[child]);
    }
    heap_put(queue, at, class);
}

static int heap_reserve(struct queue *queue)
{
    if (queue->nclasses < queue->room)
        return 0;
    uint32_t room = MAX(queue->room * 2, 8U);
    struct queue_class **heap = mem_widen(queue->heap, queue->nclasses, room, sizeof(*heap));
    if (heap == NULL)
        return -ENOMEM;
    queue->heap = heap;
    queue->room = room;
    return 0;
}

static void heap_remove(struct queue *queue, struct queue_class *class)
{
    struct queue_class *last = queue->heap[--queue->nclasses];
    if (last == class)
        return;
    heap_put(queue, class->at, last);
    heap_fix(queue, last);
}

/* Classes */

static uint64_t mix(uint64_t a)
{
    a ^= a >> 32;
    a *= 0xd6e8feb86659fd93ULL;
    a ^= a >> 32;
    return a * 0x9e3779b97f4a7c15ULL;
}

static uint64_t hash_set(const struct queue_set *set)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < ARRAY_LEN(set->words); i++)
        hash = mix(hash ^ set->words[i]);
    return hash;
}

static bool is_empty(const struct queue_set *set)
{
    uint64_t any = 0;
    for (size_t i = 0; i < ARRAY_LEN(set->words); i++)
        any |= set->words[i];
    return any == 0;
}

struct queue_class *queue_find(const struct queue *queue, const struct queue_set *set)
{
    struct idmap_node *node = idmap_find(&queue->classes, hash_set(set));
    if (node == NULL)
        return NULL;
    struct queue_class *class = container_of(node, struct queue_class, node);
    /* Of two sets with one hash the second is not found: it has a class for each of its lanes. */
    return memcmp(&class->set, set, sizeof(*set)) == 0 ? class : NULL;
}

/* A class without a lane: it joins the heap with its first one. Returns NULL without memory. */
static struct queue_class *new_class(struct queue *queue, const struct queue_set *set)
{
    struct queue_class *class = heap_reserve(queue) < 0 ? NULL : mem_zalloc(sizeof(*class));
    if (class == NULL)
        return NULL;
    class->set = *set;
    class->node.id = hash_set(set);
    list_init(&class->lanes);
    idmap_add(&queue->classes, &class->node);
    return class;
}

static void free_class(struct queue *queue, struct queue_class *class)
{
    idmap_remove(&queue->classes, &class->node);
    mem_free(class);
}

/* Flows */

static struct queue_flow *find_flow(const struct queue *queue, uint64_t id)
{
    struct idmap_node *node = idmap_find(&queue->flows, id);
    return node == NULL ? NULL : container_of(node, struct queue_flow, node);
}

static unsigned size_of(uint32_t count)
{
    return 31 - (unsigned)__builtin_clz(count);
}

static void leave_size(struct queue *queue, struct queue_flow *flow)
{
    list_remove(&flow->same_size);
    if (list_empty(&queue->sizes[size_of(flow->count)]))
        queue->sizes_used &= ~(1U << size_of(flow->count));
}

/* count: at least 1. */
static void set_count(struct queue *queue, struct queue_flow *flow, uint32_t count)
{
    unsigned size = size_of(count);
    if (flow->count != 0 && size_of(flow->count) == size) {
        flow->count = count;
        return;
    }
    if (flow->count != 0)
        leave_size(queue, flow);
    flow->count = count;
    list_append(&queue->sizes[size], &flow->same_size);
    queue->sizes_used |= 1U << size;
}

/* A flow without an item. Returns NULL without memory. */
static struct queue_flow *new_flow(struct queue *queue, uint64_t id)
{
    struct queue_flow *flow = slab_get(queue->slab);
    if (flow == NULL)
        return NULL;
    list_init(&flow->same_size);
    list_init(&flow->items);
    flow->node.id = id;
    idmap_add(&queue->flows, &flow->node);
    return flow;
}

static void free_flow(struct queue *queue, struct queue_flow *flow)
{
    if (flow->count > 0)
        leave_size(queue, flow);
    idmap_remove(&queue->flows, &flow->node);
    slab_put(queue->slab, flow);
}

uint32_t queue_flow_count(const struct queue *queue, uint64_t id)
{
    const struct queue_flow *flow = find_flow(queue, id);
    return flow == NULL ? 0 : flow->count;
}

uint32_t queue_largest(const struct queue *queue, struct queue_item **ret_newest)
{
    if (queue->sizes_used == 0)
        return 0;
    const struct list *largest = &queue->sizes[size_of(queue->sizes_used)];
    struct queue_flow *flow = list_first(largest, struct queue_flow, same_size);
    if (ret_newest != NULL)
        *ret_newest = container_of(flow->items.prev, struct queue_item, in_flow);
    return flow->count;
}

/* Lanes */

static uint64_t lane_id(const struct queue_flow *flow, const struct queue_class *class)
{
    return mix(mix((uintptr_t)flow) ^ (uintptr_t) class);
}

static struct queue_lane *find_lane(
    const struct queue *queue, const struct queue_flow *flow, const struct queue_class *class)
{
    struct idmap_node *node = idmap_find(&queue->lanes, lane_id(flow, class));
    if (node == NULL)
        return NULL;
    struct queue_lane *lane = container_of(node, struct queue_lane, node);
    return lane->flow == flow && lane->class == class ? lane : NULL;
}

static struct queue_lane *new_lane(
    struct queue *queue, struct queue_flow *flow, const struct queue_set *set, uint64_t turn)
{
    struct queue_class *class = queue_find(queue, set);
    struct queue_lane *lane = class == NULL ? NULL : find_lane(queue, flow, class);
    if (lane != NULL)
        return lane;
    lane = slab_get(queue->slab);
    if (lane == NULL)
        return NULL;
    bool fresh = class == NULL;
    if (fresh)
        class = new_class(queue, set);
    if (class == NULL) {
        slab_put(queue->slab, lane);
        return NULL;
    }
    lane->flow = flow;
    lane->class = class;
    lane->turn = turn;
    lane->node.id = lane_id(flow, class);
    list_init(&lane->items);
    idmap_add(&queue->lanes, &lane->node);
    list_append(&class->lanes, &lane->in_class);
    class->nlanes++;
    if (fresh) {
        heap_put(queue, queue->nclasses++, class);
        heap_fix(queue, class);
    }
    return lane;
}

/* Takes a lane out of its class; a class ends with its last lane. */
static void leave_class(struct queue *queue, struct queue_lane *lane)
{
    struct queue_class *class = lane->class;
    bool last = class->lanes.next == class->lanes.prev;
    if (last)
        heap_remove(queue, class);
    list_remove(&lane->in_class);
    class->nlanes--;
    idmap_remove(&queue->lanes, &lane->node);
    if (last)
        free_class(queue, class);
    else
        heap_fix(queue, class);
}

static void free_lane(struct queue *queue, struct queue_lane *lane)
{
    leave_class(queue, lane);
    slab_put(queue->slab, lane);
}

/* Makes a lane the next one of its class. */
static void go_first(struct queue *queue, struct queue_lane *lane)
{
    struct queue_class *class = lane->class;
    lane->turn = MIN(lane->turn, queue_turn(class));
    list_remove(&lane->in_class);
    list_append(class->lanes.next, &lane->in_class);
    heap_fix(queue, class);
}

/* Items */

int queue_add(struct queue *queue, struct queue_item *item, uint64_t id,
    const struct queue_set *set, bool in_front, uint64_t now)
{
    struct queue_flow *flow = find_flow(queue, id);
    if (flow == NULL && (flow = new_flow(queue, id)) == NULL)
        return -ENOMEM;
    struct queue_lane *lane = NULL;
    struct list *list = &queue->untaken;
    if (!is_empty(set)) {
        lane = new_lane(queue, flow, set, now);
        if (lane == NULL) {
            if (flow->count == 0)
                free_flow(queue, flow);
            return -ENOMEM;
        }
        list = in_front ? lane->items.next : &lane->items;
        lane->class->count++;
    }
    item->flow = flow;
    item->lane = lane;
    item->since = now;
    list_append(list, &item->in_lane);
    list_append(in_front ? flow->items.next : &flow->items, &item->in_flow);
    list_append(&queue->arrival, &item->arrival);
    set_count(queue, flow, flow->count + 1);
    queue->count++;
    if (in_front && lane != NULL)
        go_first(queue, lane);
    return 0;
}

/* Takes an item out of all lists but its lane's. */
static void forget(struct queue *queue, struct queue_item *item)
{
    struct queue_flow *flow = item->flow;
    list_remove(&item->arrival);
    list_remove(&item->in_flow);
    item->flow = NULL;
    item->lane = NULL;
    queue->count--;
    if (flow->count == 1)
        free_flow(queue, flow);
    else
        set_count(queue, flow, flow->count - 1);
}

void queue_remove(struct queue *queue, struct queue_item *item)
{
    struct queue_lane *lane = item->lane;
    list_remove(&item->in_lane);
    if (lane != NULL)
        lane->class->count--;
    if (lane != NULL && list_empty(&lane->items))
        free_lane(queue, lane);
    forget(queue, item);
}

void queue_serve(struct queue *queue, struct queue_item *item, uint64_t now)
{
    struct queue_lane *lane = item->lane;
    CHECK(lane != NULL);
    list_remove(&item->in_lane);
    lane->class->count--;
    if (list_empty(&lane->items)) {
        free_lane(queue, lane);
    } else {
        list_remove(&lane->in_class);
        list_append(&lane->class->lanes, &lane->in_class);
        lane->turn = now;
        heap_fix(queue, lane->class);
    }
    forget(queue, item);
}

struct queue_class *queue_first_of(const struct queue *queue, uint32_t worker)
{
    struct queue_class *best = NULL;
    for (uint32_t i = 0; i < queue->nclasses; i++) {
        struct queue_class *class = queue->heap[i];
        if (queue_set_has(&class->set, worker) &&
            (best == NULL || queue_turn(class) < queue_turn(best)))
            best = class;
    }
    return best;
}

struct queue_item *queue_next(const struct queue_class *class)
{
    return list_first(&first_lane(class)->items, struct queue_item, in_lane);
}

bool queue_is_only(const struct queue_item *item)
{
    return item->lane != NULL && item->lane->items.next == item->lane->items.prev;
}

struct queue_item *queue_untaken(const struct queue *queue)
{
    return list_empty(&queue->untaken) ? NULL
                                       : list_first(&queue->untaken, struct queue_item, in_lane);
}

struct queue_item *queue_oldest(const struct queue *queue)
{
    return list_empty(&queue->arrival) ? NULL
                                       : list_first(&queue->arrival, struct queue_item, arrival);
}

/* Reclassing */

struct reclass {
    struct queue *queue;
    void (*set_of)(const struct queue_item *item, struct queue_set *ret_set, void *data);
    void *data;
    struct list *failed;
};

/* Takes all lanes out of their classes, which end. The lanes keep their turns, and are in order. */
static void gather_lanes(struct queue *queue, struct list *ret_lanes)
{
    while (queue->nclasses > 0) {
        struct queue_lane *lane = first_lane(queue->heap[0]);
        leave_class(queue, lane);
        list_append(ret_lanes, &lane->in_class);
    }
}

/* Gives all items of a flow new lanes; those with an empty set have none. */
static void place_flow(const struct reclass *reclass, struct queue_flow *flow, uint64_t turn)
{
    if (flow->mark == reclass->queue->serial)
        return;
    flow->mark = reclass->queue->serial;
    list_for_each (node, &flow->items) {
        struct queue_item *item = container_of(node, struct queue_item, in_flow);
        struct queue_set set = {0};
        list_remove(&item->in_lane);
        item->lane = NULL;
        reclass->set_of(item, &set, reclass->data);
        if (is_empty(&set))
            continue;
        item->lane = new_lane(reclass->queue, flow, &set, turn);
        list_append(item->lane == NULL ? reclass->failed : &item->lane->items, &item->in_lane);
        if (item->lane != NULL)
            item->lane->class->count++;
    }
}

static void place_all(const struct reclass *reclass, struct list *lanes, struct list *untaken)
{
    while (!list_empty(lanes) || !list_empty(untaken)) {
        struct queue_lane *lane = list_first(lanes, struct queue_lane, in_class);
        struct queue_item *item = list_first(untaken, struct queue_item, in_lane);
        if (list_empty(lanes) || (!list_empty(untaken) && item->since < lane->turn)) {
            /* The item leaves this list, as all of its flow that are in it. */
            place_flow(reclass, item->flow, item->since);
            continue;
        }
        place_flow(reclass, lane->flow, lane->turn);
        list_remove(&lane->in_class);
        slab_put(reclass->queue->slab, lane);
    }
}

void queue_reclass(struct queue *queue,
    void (*set_of)(const struct queue_item *item, struct queue_set *ret_set, void *data),
    void *data, struct list *failed)
{
    struct reclass reclass = {.queue = queue, .set_of = set_of, .data = data, .failed = failed};
    struct list lanes;
    struct list untaken;
    queue->serial++;
    list_init(&lanes);
    list_init(&untaken);
    list_take(&untaken, &queue->untaken);
    gather_lanes(queue, &lanes);
    place_all(&reclass, &lanes, &untaken);
    list_for_each_safe (node, failed) {
        struct queue_item *item = container_of(node, struct queue_item, in_lane);
        forget(queue, item);
        item->since = 0;
    }
    list_for_each (node, &queue->arrival) {
        struct queue_item *item = container_of(node, struct queue_item, arrival);
        if (item->lane == NULL)
            list_append(&queue->untaken, &item->in_lane);
    }
}
