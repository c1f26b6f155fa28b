#pragma once

/*
 * What waits in a pool, and which of it is next. No socket, no clock, no calls: time is an
 * argument.
 *
 * An *item* belongs to a *flow*, the client connection that it came from, and to a *class*, which
 * is the set of workers that may take it. Within a class the flows take turns, one item each;
 * within a flow it is first in, first out. So a client waits for one item of each other client
 * at most, however many those have waiting.
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

/* A set of workers by their numbers. Empty: nobody takes it, and it only waits. */
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

/* Member of what waits. */
struct queue_item {
    struct list arrival; /* of all items, in the order in which they came */
    struct list in_flow;
    struct list in_lane;     /* of its flow's items of its class; or of those that nobody takes */
    struct queue_flow *flow; /* NULL: it does not wait */
    struct queue_lane *lane; /* NULL: nobody takes it */
    uint64_t since;          /* ms: when it came */
};

struct queue_class {
    struct idmap_node node;
    struct queue_set set;
    struct list lanes; /* flows with something waiting, in the order of their turns */
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
    struct list untaken;            /* items that nobody takes, in the order in which they came */
    struct list sizes[QUEUE_SIZES]; /* flows with 2^i to 2^(i+1) - 1 items */
    uint32_t sizes_used;            /* a bit for each that is not empty */
    uint64_t serial;                /* of classes */
};

/* What a slab for queues is made for. */
size_t queue_slab_size(void);

/* slab: borrowed; may serve several queues. Returns 0 or -ENOMEM. */
int queue_init(struct queue *queue, struct slab *slab);

/* CHECKs that nothing waits. Accepts one that is zeroed. */
void queue_deinit(struct queue *queue);

/*
 * Adds an item. flow: any number. in_front: it was taken before and is back: it is the first of its
 * flow, and its flow is next. now: ms, never less than before. Returns 0, or -ENOMEM with the item
 * left out.
 */
int queue_add(struct queue *queue, struct queue_item *item, uint64_t flow,
    const struct queue_set *set, bool in_front, uint64_t now);

/* Takes an item out that has been served: the flow's next one waits for another turn. */
void queue_serve(struct queue *queue, struct queue_item *item, uint64_t now);

/* Takes an item out that waits no longer, without being served. */
void queue_remove(struct queue *queue, struct queue_item *item);

/* The class with the earliest turn; NULL where nothing waits that somebody takes. */
static inline struct queue_class *queue_first(const struct queue *queue)
{
    return queue->nclasses == 0 ? NULL : queue->heap[0];
}

/* The class with the earliest turn that has this worker in its set, or NULL: looks at classes. */
struct queue_class *queue_first_of(const struct queue *queue, uint32_t worker);

/* The class of exactly this set, or NULL. */
struct queue_class *queue_find(const struct queue *queue, const struct queue_set *set);

/* The item whose turn it is there. */
struct queue_item *queue_next(const struct queue_class *class);

/* Since when its flow waits, ms. */
uint64_t queue_turn(const struct queue_class *class);

/* How many a flow has waiting. */
uint32_t queue_flow_count(const struct queue *queue, uint64_t flow);

/*
 * What a flow has waiting that has most of it, but for a factor of two; 0 where nothing waits.
 * *ret_newest: its newest item, where it is not NULL.
 */
uint32_t queue_largest(const struct queue *queue, struct queue_item **ret_newest);

/* How many could go and each flow have one left. */
static inline uint32_t queue_spare(const struct queue *queue)
{
    return queue->count - (uint32_t)queue->flows.count;
}

/* The oldest of those that nobody takes, or NULL. */
struct queue_item *queue_untaken(const struct queue *queue);

/* The oldest of all, or NULL. */
struct queue_item *queue_oldest(const struct queue *queue);

/*
 * The workers have changed: finds each item's class anew, keeping all orders. set_of: fills a
 * zeroed set for an item. Items for which there is no memory are taken out and put into *failed, a
 * list of in_lane, initialised by the caller. Costs as much as waits.
 */
void queue_reclass(struct queue *queue,
    void (*set_of)(const struct queue_item *item, struct queue_set *ret_set, void *data),
    void *data, struct list *failed);
