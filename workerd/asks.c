#include "workerd/asks.h"

#include "common/alloc.h"
#include "common/random.h"

int asks_init(struct asks *asks)
{
    random_hex(asks->token, (ASK_TOKEN_SIZE - 1) / 2);
    list_init(&asks->by_due);
    return idmap_init(&asks->pending);
}

void asks_answer(struct asks *asks, struct ask *ask, struct workerd_text response)
{
    idmap_remove(&asks->pending, &ask->node);
    list_remove(&ask->link);
    ask->answered(response, ask->data);
    mem_free(ask);
}

void asks_end(struct asks *asks)
{
    while (asks->pending.count > 0)
        asks_answer(
            asks, list_first(&asks->by_due, struct ask, link), (struct workerd_text){NULL, 0});
}

void asks_deinit(struct asks *asks)
{
    if (asks->pending.buckets == NULL)
        return;
    asks_end(asks);
    idmap_deinit(&asks->pending);
}

uint64_t asks_tick(struct asks *asks, uint64_t now)
{
    while (asks->pending.count > 0) {
        struct ask *ask = list_first(&asks->by_due, struct ask, link);
        if (ask->due > now)
            return ask->due;
        asks_answer(asks, ask, (struct workerd_text){NULL, 0});
    }
    return UINT64_MAX;
}

/* Most requests wait equally long, so that the place of a new one is at the end or near it. */
void asks_add(struct asks *asks, struct ask *ask)
{
    struct list *after = asks->by_due.prev;
    while (after != &asks->by_due && container_of(after, struct ask, link)->due > ask->due)
        after = after->prev;
    list_append(after->next, &ask->link);
    idmap_add(&asks->pending, &ask->node);
}

struct ask *asks_find(const struct asks *asks, uint64_t number)
{
    struct idmap_node *node = idmap_find(&asks->pending, number);
    return node == NULL ? NULL : container_of(node, struct ask, node);
}
