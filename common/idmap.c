#include "common/idmap.h"

#include <errno.h>

#include "common/alloc.h"

enum { BUCKETS_MIN_BITS = 6 };

int idmap_init(struct idmap *map)
{
    *map = (struct idmap){
        .mask = ((size_t)1 << BUCKETS_MIN_BITS) - 1, .shift = 64 - BUCKETS_MIN_BITS};
    map->buckets = mem_zalloc((map->mask + 1) * sizeof(*map->buckets));
    return map->buckets == NULL ? -ENOMEM : 0;
}

void idmap_deinit(struct idmap *map)
{
    CHECK(map->count == 0);
    map->buckets = mem_free(map->buckets);
}

/* Multiplied by 2^64 over the golden ratio, numbers that differ in any bits, high or low, differ in
 * the highest ones. */
static inline size_t bucket_of(unsigned shift, uint64_t id)
{
    return (id * 0x9e3779b97f4a7c15ULL) >> shift;
}

static void idmap_grow(struct idmap *map)
{
    size_t old = map->mask + 1;
    struct idmap_node **buckets = mem_zalloc(old * 2 * sizeof(*buckets));
    if (buckets == NULL)
        return;
    unsigned shift = map->shift - 1;
    for (size_t i = 0; i < old; i++) {
        while (map->buckets[i] != NULL) {
            struct idmap_node *node = map->buckets[i];
            map->buckets[i] = node->next;
            struct idmap_node **bucket = &buckets[bucket_of(shift, node->id)];
            node->next = *bucket;
            *bucket = node;
        }
    }
    mem_free(map->buckets);
    map->buckets = buckets;
    map->mask = old * 2 - 1;
    map->shift = shift;
}

void idmap_add(struct idmap *map, struct idmap_node *node)
{
    if (UNLIKELY(
            map->count >
            2 * map->mask)) /* two nodes in a bucket: a longer chain costs less than more memory */
        idmap_grow(map);
    struct idmap_node **bucket = &map->buckets[bucket_of(map->shift, node->id)];
    node->next = *bucket;
    *bucket = node;
    map->count++;
}

struct idmap_node *idmap_find(const struct idmap *map, uint64_t id)
{
    struct idmap_node *node = map->buckets[bucket_of(map->shift, id)];
    while (node != NULL && node->id != id)
        node = node->next;
    return node;
}

void idmap_remove(struct idmap *map, struct idmap_node *node)
{
    struct idmap_node **link = &map->buckets[bucket_of(map->shift, node->id)];
    while (*link != node) {
        CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    map->count--;
}

void idmap_each(
    const struct idmap *map, void (*visit)(struct idmap_node *node, void *arg), void *arg)
{
    for (size_t i = 0; i <= map->mask; i++) {
        for (struct idmap_node *node = map->buckets[i]; node != NULL; node = node->next)
            visit(node, arg);
    }
}

/* Merges two chains, each with the highest id first. */
static struct idmap_node *merge(struct idmap_node *a, struct idmap_node *b)
{
    struct idmap_node *first = NULL;
    struct idmap_node **link = &first;
    while (a != NULL && b != NULL) {
        struct idmap_node **higher = a->id > b->id ? &a : &b;
        *link = *higher;
        link = &(*higher)->next;
        *higher = *link;
    }
    *link = a == NULL ? b : a;
    return first;
}

/* runs[i] is NULL, or a sorted chain of 2^i nodes; so each node is merged as often as i is high. */
static struct idmap_node *sort(struct idmap_node *node)
{
    struct idmap_node *runs[64] = {NULL};
    struct idmap_node *sorted = NULL;
    while (node != NULL) {
        struct idmap_node *run = node;
        node = node->next;
        run->next = NULL;
        size_t i = 0;
        for (; runs[i] != NULL; i++) {
            run = merge(runs[i], run);
            runs[i] = NULL;
        }
        runs[i] = run;
    }
    for (size_t i = 0; i < ARRAY_LEN(runs); i++)
        sorted = merge(runs[i], sorted);
    return sorted;
}

struct idmap_node *idmap_take_above(struct idmap *map, uint64_t floor)
{
    struct idmap_node *taken = NULL;
    for (size_t i = 0; map->count > 0 && i <= map->mask; i++) {
        struct idmap_node **link = &map->buckets[i];
        while (*link != NULL) {
            struct idmap_node *node = *link;
            if (node->id <= floor) {
                link = &node->next;
                continue;
            }
            *link = node->next;
            node->next = taken;
            taken = node;
            map->count--;
        }
    }
    return sort(taken);
}
