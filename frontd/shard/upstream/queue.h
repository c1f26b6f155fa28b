#pragma once

/*
 * The items that wait in a pool, and which of them is next. No socket, no clock, no calls: time is
 * an argument.
 *
 * An *item* belongs to a *flow*, the client connection that it came from, and to a *class*, which
 * is the set of workers that may take it. Within a class the flows take turns, one item each;
 * within a flow it is first in, first out. So a client waits for one item of each other client at
 * most, however many those have waiting.
 *
 * A flow's *turn* is the time since when it waits for a worker: when its first item came, or when
 * it was last served where that is later. The flow with the earliest turn is next, and flows of
 * several queues (shards) can be compared by it.
 *
 * Everything costs the same however many items wait, but for queue_reclass().
 */

#include "common/idmap.h"
#include "common/list.h"
#include "common/slab.h"

enum {
    QUEUE_WORKERS_MAX = 1024, /* that a set can name: SHARE_WORKERS */
    QUEUE_SIZES = 32,         /* flows are kept apart by the logarithm of how much they have */
};

/* A set of workers by their numbers. An item with an empty set waits until the workers change. */
struct queue_set {
    uint64_t words[QUEUE_WORKERS_MAX / 64];
};

static inline void queue_set_add(struct queue_set *set, uint32_t worker)
{
    set->words[worker / 64] |= (uint64_t)1 << worker % 64;
}

static inline bool queue_set_has(const struct queue_set *set, uint32_t worker)
{
    return set->words[worker / 64] >> worker % 64 & 1;
}

struct queue_flow;
struct queue_lane;

/* Member of the objects that wait. */
struct queue_item {
    struct list arrival; /* of all items, in the order in which they came */
    struct list in_flow;
    struct list in_lane;     /* of its flow's items of its class; or queue->untaken */
    struct queue_flow *flow; /* NULL: it does not wait */
    struct queue_lane *lane; /* NULL: its set is empty */
    uint64_t since;          /* ms: when it came */
};

struct queue_class {
    struct idmap_node node;
    struct queue_set set;
    struct list lanes; /* flows with something waiting, in the order of their turns */
    uint32_t nlanes;   /* flows */
    uint32_t count;    /* items */
    uint32_t at;       /* in queue->heap */
};

struct queue {
    struct slab *slab;
    struct idmap flows;
    struct idmap lanes;
    struct idmap classes;
    struct queue_class **heap; /* the class with the earliest turn first */
    uint32_t nclasses;
    uint32_t room; /* of heap[] */
    uint32_t count;
    struct list arrival;
    struct list untaken;            /* items with an empty set, in the order in which they came */
    struct list sizes[QUEUE_SIZES]; /* flows with 2^i to 2^(i+1) - 1 items each */
    uint32_t sizes_used;            /* a bit for each that is not empty */
    uint64_t serial;                /* of classes */
};

/* The size of the objects of a slab for queues, bytes. */
size_t queue_slab_size(void);

/* slab: borrowed; may serve several queues. Returns 0 or -ENOMEM. */
int queue_init(struct queue *queue, struct slab *slab);

/* CHECKs that nothing waits. Accepts one that is zeroed. */
void queue_deinit(struct queue *queue);

/*
 * Adds an item. flow: any number. in_front: the item was served before and has come back: it
 * becomes the first of its flow, and its flow is next. now: ms, never less than before. Returns 0,
 * or -ENOMEM with the item left out.
 */
int queue_add(struct queue *queue, struct queue_item *item, uint64_t flow,
    const struct queue_set *set, bool in_front, uint64_t now);

/* Takes an item out that is served: the next one of its flow waits for another turn. */
void queue_serve(struct queue *queue, struct queue_item *item, uint64_t now);

/* Takes an item out that is not served: its flow keeps its turn. */
void queue_remove(struct queue *queue, struct queue_item *item);

/* The class with the earliest turn; NULL where no item waits, or only untaken ones. */
static inline struct queue_class *queue_first(const struct queue *queue)
{
    return queue->nclasses == 0 ? NULL : queue->heap[0];
}

/* The class with the earliest turn that has this worker in its set, or NULL: looks at classes. */
struct queue_class *queue_first_of(const struct queue *queue, uint32_t worker);

/* The class of exactly this set, or NULL. */
struct queue_class *queue_find(const struct queue *queue, const struct queue_set *set);

/* The item of that class with the next turn. */
struct queue_item *queue_next(const struct queue_class *class);

/* Whether an item that waits is the only one of its flow and class. */
bool queue_is_only(const struct queue_item *item);

/* Since when its flow waits, ms. */
uint64_t queue_turn(const struct queue_class *class);

/* How many items of a flow wait. */
uint32_t queue_flow_count(const struct queue *queue, uint64_t flow);

/*
 * How many items of the largest flow wait, or of one with more than half as many; 0 where no item
 * waits. ret_newest: its newest item is put there; may be NULL.
 */
uint32_t queue_largest(const struct queue *queue, struct queue_item **ret_newest);

/* How many items could leave with one left of each flow. */
static inline uint32_t queue_spare(const struct queue *queue)
{
    return queue->count - (uint32_t)queue->flows.count;
}

/* The oldest item with an empty set, or NULL. */
struct queue_item *queue_untaken(const struct queue *queue);

/* The oldest of all items, or NULL. */
struct queue_item *queue_oldest(const struct queue *queue);

/*
 * The workers have changed: finds each item's class anew, keeping all orders. set_of: fills a
 * zeroed set for an item. Items for which there is no memory are taken out and put into *failed, a
 * list of in_lane, initialised by the caller. Costs as much as waits.
 */
void queue_reclass(struct queue *queue,
    void (*set_of)(const struct queue_item *item, struct queue_set *ret_set, void *data),
    void *data, struct list *failed);
