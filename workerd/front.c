#include "workerd/front.h"

#include <errno.h>

#include "common/alloc.h"
#include "workerd/worker.h"

/* FNV-1a: fronts are trusted and few, so that a collision need not be feared. */
uint64_t front_id(const char *instance)
{
    uint64_t hash = 14695981039346656037U;
    for (; *instance != '\0'; instance++)
        hash = (hash ^ (unsigned char)*instance) * 1099511628211U;
    return hash != 0 ? hash : 1;
}

struct front *front_find(const struct workerd *worker, uint64_t id)
{
    list_for_each (node, &worker->fronts) {
        struct front *front = container_of(node, struct front, node);
        if (front->id == id)
            return front;
    }
    return NULL;
}

int front_join(struct channel *channel, const char *instance)
{
    struct workerd *worker = channel->worker;
    uint64_t id = front_id(instance);
    struct front *front = front_find(worker, id);
    if (front == NULL) {
        front = mem_zalloc(sizeof(*front));
        if (front == NULL)
            return -ENOMEM;
        front->id = id;
        list_init(&front->channels);
        list_append(&worker->fronts, &front->node);
    }
    list_for_each (node, &front->channels)
        channel_touch(container_of(node, struct channel, of_front));
    channel->front = front;
    list_append(&front->channels, &channel->of_front);
    atomic_fetch_add(&worker->nopen, 1);
    return 0;
}

void front_leave(struct channel *channel)
{
    struct front *front = channel->front;
    if (front == NULL)
        return;
    channel->front = NULL;
    if (front->usual == channel)
        front->usual = NULL;
    list_remove(&channel->of_front);
    atomic_fetch_sub(&channel->worker->nopen, 1);
    if (list_empty(&front->channels)) {
        list_remove(&front->node);
        mem_free(front);
    }
}

struct channel *front_channel(struct front *front, uint64_t serial)
{
    struct channel *found = NULL;
    list_for_each (node, &front->channels) {
        struct channel *channel = container_of(node, struct channel, of_front);
        if (channel->serial == serial)
            return channel;
        if (channel->state == CHANNEL_OPEN && (found == NULL || (found->going && !channel->going)))
            found = channel;
    }
    if (front->usual == NULL)
        front->usual = found;
    return front->usual;
}

bool front_has_other(const struct front *front, const struct channel *channel)
{
    list_for_each (node, &front->channels) {
        const struct channel *other = container_of(node, struct channel, of_front);
        if (other != channel && other->state == CHANNEL_OPEN)
            return true;
    }
    return false;
}

bool front_stays(const struct front *front)
{
    list_for_each (node, &front->channels) {
        const struct channel *channel = container_of(node, struct channel, of_front);
        if (channel->state == CHANNEL_OPEN && !channel->going)
            return true;
    }
    return false;
}
