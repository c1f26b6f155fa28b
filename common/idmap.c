#include "common/idmap.h"

#include <errno.h>

#include "common/mem.h"

enum { BUCKETS_MIN = 64 };

int idmap_init(struct idmap *map)
{
    *map = (struct idmap){.mask = BUCKETS_MIN - 1};
    map->buckets = mem_zalloc(BUCKETS_MIN * sizeof(*map->buckets));
    return map->buckets == NULL ? -ENOMEM : 0;
}

void idmap_deinit(struct idmap *map)
{
    CHECK(map->count == 0);
    map->buckets = mem_free(map->buckets);
}

static void idmap_grow(struct idmap *map)
{
    size_t old = map->mask + 1;
    struct idmap_node **buckets = mem_zalloc(old * 2 * sizeof(*buckets));
    if (buckets == NULL)
        return;
    size_t mask = old * 2 - 1;
    for (size_t i = 0; i < old; i++) {
        while (map->buckets[i] != NULL) {
            struct idmap_node *node = map->buckets[i];
            map->buckets[i] = node->next;
            node->next = buckets[node->id & mask];
            buckets[node->id & mask] = node;
        }
    }
    mem_free(map->buckets);
    map->buckets = buckets;
    map->mask = mask;
}

void idmap_add(struct idmap *map, struct idmap_node *node)
{
    if (UNLIKELY(map->count > 2 * map->mask)) /* two to a bucket: a chain costs less than memory */
        idmap_grow(map);
    struct idmap_node **bucket = &map->buckets[node->id & map->mask];
    node->next = *bucket;
    *bucket = node;
    map->count++;
}

struct idmap_node *idmap_find(const struct idmap *map, uint64_t id)
{
    struct idmap_node *node = map->buckets[id & map->mask];
    while (node != NULL && node->id != id)
        node = node->next;
    return node;
}

void idmap_remove(struct idmap *map, struct idmap_node *node)
{
    struct idmap_node **link = &map->buckets[node->id & map->mask];
    while (*link != node) {
        CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = node->next;
    node->next = NULL;
    map->count--;
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
    return taken;
}
