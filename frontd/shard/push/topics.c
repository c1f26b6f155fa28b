#include "frontd/shard/push/topics.h"

#include <errno.h>
#include <string.h>

#include "common/alloc.h"

/* Topics are named by workers, often after what clients say: the hash is keyed. (Where it is used
 * `topics` is the struct.) */
#define HASH_FUNCTION(bytes, len, hash) ((hash) = (unsigned)hash_bytes(&topics->key, bytes, len))
#define HASH_NONFATAL_OOM               1
#define uthash_malloc(size)             mem_zalloc(size)
#define uthash_free(block, size)        mem_free(block)
#include <uthash.h>

struct topic {
    UT_hash_handle hh;
    struct client **members;
    struct topic_walk *walks;
    uint32_t count;
    uint32_t room;
    uint64_t number; /* the table has them in the order of these */
    uint64_t realm;  /* with the name, what it is found by */
    char name[];
};
_Static_assert(offsetof(struct topic, name) == offsetof(struct topic, realm) + sizeof(uint64_t),
    "the key of a topic lies in one piece");

void topics_init(struct topics *topics, struct subscription *(*of)(struct client *client))
{
    *topics = (struct topics){.subscriptions_of = of, .key = hash_key_random()};
    slab_init(&topics->slab, sizeof(struct subscription));
}

void topics_deinit(struct topics *topics)
{
    CHECK(topics->table == NULL && topics->lists == NULL);
    slab_deinit(&topics->slab);
}

static struct topic *find(const struct topics *topics, uint64_t realm, struct span name)
{
    struct {
        uint64_t realm;
        char name[TOPIC_NAME_MAX];
    } key;
    struct topic *topic = NULL;
    if (topics->table == NULL || name.n > TOPIC_NAME_MAX)
        return NULL;
    key.realm = realm;
    memcpy(key.name, name.p, name.n);
    HASH_FIND(hh, topics->table, &key, sizeof(realm) + name.n, topic);
    return topic;
}

static struct span name_of(const struct topic *topic)
{
    return (struct span){topic->name, topic->hh.keylen - sizeof(topic->realm)};
}

static struct topic *create(struct topics *topics, uint64_t realm, struct span name)
{
    struct topic *topic = mem_zalloc(sizeof(*topic) + name.n);
    if (topic == NULL)
        return NULL;
    topic->realm = realm;
    memcpy(topic->name, name.p, name.n);
    HASH_ADD_KEYPTR(hh, topics->table, &topic->realm, sizeof(realm) + name.n, topic);
    if (topic->hh.tbl == NULL)
        return mem_free(topic); /* no memory for the table */
    topic->number = ++topics->made;
    return topic;
}

static void destroy_if_empty(struct topics *topics, struct topic *topic)
{
    if (topic->count > 0)
        return;
    for (struct topic_list *list = topics->lists; list != NULL; list = list->next) {
        if (list->at == topic)
            list->at = topic->hh.next;
    }
    HASH_DEL(topics->table, topic);
    for (struct topic_walk *walk = topic->walks; walk != NULL; walk = walk->next)
        walk->topic = NULL;
    mem_free(topic->members);
    mem_free(topic);
}

static int grow(struct topic *topic)
{
    if (topic->count < topic->room)
        return 0;
    uint32_t room = MAX(topic->room + topic->room / 2, 4U);
    struct client **members = mem_widen(topic->members, topic->count, room, sizeof(*members));
    if (members == NULL)
        return -ENOMEM;
    topic->members = members;
    topic->room = room;
    return 0;
}

int topics_join(struct topics *topics, struct client *client, struct subscription **subscriptions,
    uint64_t realm, struct span name, uint32_t limit)
{
    uint32_t have = 0;
    if (name.n == 0 || name.n > TOPIC_NAME_MAX)
        return TOPICS_E_NAME;
    struct topic *topic = find(topics, realm, name);
    for (const struct subscription *s = *subscriptions; s != NULL; s = s->next, have++) {
        if (s->topic == topic)
            return 0;
    }
    if (have >= limit)
        return TOPICS_E_LIMIT;
    if (topic == NULL)
        topic = create(topics, realm, name);
    if (topic == NULL)
        return -ENOMEM;
    struct subscription *subscription = slab_get(&topics->slab);
    if (subscription == NULL || grow(topic) < 0) {
        if (subscription != NULL)
            slab_put(&topics->slab, subscription);
        destroy_if_empty(topics, topic);
        return -ENOMEM;
    }
    subscription->topic = topic;
    subscription->index = topic->count;
    subscription->next = *subscriptions;
    *subscriptions = subscription;
    topic->members[topic->count++] = client;
    return 0;
}

/* Moves the member at `from` to the place `to`, which is free; its subscription notes it. */
static void move_member(
    const struct topics *topics, struct topic *topic, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    struct client *moved = topic->members[from];
    topic->members[to] = moved;
    struct subscription *its = topics->subscriptions_of(moved);
    while (its->topic != topic)
        its = its->next;
    its->index = to;
}

/*
 * A member has left the place `gap`, which the last member is to take. But a walk meets exactly the
 * members before its `left`, so none may be moved across that. Of the walks that are still to meet
 * the gap, the one with the least `left` has the last member before it moved into the gap; the
 * place of that member is the gap for the others; and so on. Returns the place that no walk is to
 * meet.
 */
static uint32_t close_gap(const struct topics *topics, struct topic *topic, uint32_t gap)
{
    for (;;) {
        uint32_t least = UINT32_MAX;
        for (const struct topic_walk *walk = topic->walks; walk != NULL; walk = walk->next) {
            if (walk->left > gap)
                least = MIN(least, walk->left);
        }
        if (least == UINT32_MAX)
            return gap;
        for (struct topic_walk *walk = topic->walks; walk != NULL; walk = walk->next)
            walk->left -= walk->left == least;
        move_member(topics, topic, least - 1, gap);
        gap = least - 1;
    }
}

/* Takes the subscription at *link out of its topic and its connection. */
static void leave(struct topics *topics, struct subscription **link)
{
    struct subscription *subscription = *link;
    struct topic *topic = subscription->topic;
    *link = subscription->next;
    uint32_t gap = close_gap(topics, topic, subscription->index);
    move_member(topics, topic, --topic->count, gap);
    slab_put(&topics->slab, subscription);
    destroy_if_empty(topics, topic);
}

void topics_leave(
    struct topics *topics, struct subscription **subscriptions, uint64_t realm, struct span name)
{
    const struct topic *only = name.p == NULL ? NULL : find(topics, realm, name);
    if (name.p != NULL && only == NULL)
        return;
    struct subscription **link = subscriptions;
    while (*link != NULL) {
        if (only == NULL || (*link)->topic == only)
            leave(topics, link);
        else
            link = &(*link)->next;
    }
}

void topics_walk(
    const struct topics *topics, struct topic_walk *walk, uint64_t realm, struct span name)
{
    struct topic *topic = find(topics, realm, name);
    *walk = (struct topic_walk){.topic = topic};
    if (topic == NULL)
        return;
    walk->left = topic->count;
    walk->next = topic->walks;
    topic->walks = walk;
}

void topics_stop(struct topic_walk *walk)
{
    if (walk->topic == NULL)
        return;
    struct topic_walk **link = &walk->topic->walks;
    while (*link != walk)
        link = &(*link)->next;
    *link = walk->next;
    walk->topic = NULL;
}

struct client *topics_next(struct topic_walk *walk)
{
    if (walk->topic == NULL)
        return NULL;
    if (walk->left > 0)
        return walk->topic->members[--walk->left];
    topics_stop(walk);
    return NULL;
}

struct topic_members topics_members(const struct topics *topics, uint64_t realm, struct span name)
{
    const struct topic *topic = find(topics, realm, name);
    if (topic == NULL)
        return (struct topic_members){0};
    return (struct topic_members){topic->members, topic->count};
}

void topics_list(struct topics *topics, struct topic_list *list)
{
    *list = (struct topic_list){
        .next = topics->lists, .topics = topics, .at = topics->table, .last = topics->made};
    topics->lists = list;
}

void topics_list_stop(struct topic_list *list)
{
    if (list->topics == NULL)
        return;
    struct topic_list **link = &list->topics->lists;
    while (*link != list)
        link = &(*link)->next;
    *link = list->next;
    list->topics = NULL;
}

bool topics_list_next(struct topic_list *list, struct topic_entry *ret_entry)
{
    struct topic *topic = list->at;
    if (list->topics == NULL || topic == NULL || topic->number > list->last) {
        topics_list_stop(list);
        return false;
    }
    list->at = topic->hh.next;
    *ret_entry = (struct topic_entry){name_of(topic), topic->realm, topic->count};
    return true;
}

bool topics_has(const struct subscription *subscriptions, struct span name)
{
    for (const struct subscription *s = subscriptions; s != NULL; s = s->next) {
        struct span its = name_of(s->topic);
        if (its.n == name.n && memcmp(its.p, name.p, name.n) == 0)
            return true;
    }
    return false;
}

uint32_t topics_count(const struct subscription *subscriptions)
{
    uint32_t n = 0;
    for (const struct subscription *s = subscriptions; s != NULL; s = s->next)
        n++;
    return n;
}

size_t topics_held(const struct subscription *subscriptions)
{
    size_t held = 0;
    for (const struct subscription *s = subscriptions; s != NULL; s = s->next) {
        const struct topic *topic = s->topic;
        size_t shared = sizeof(*topic) + name_of(topic).n + topic->room * sizeof(*topic->members);
        held += sizeof(*s) + shared / topic->count;
    }
    return held;
}

void topics_save(const struct subscription *subscriptions, struct pack *pack)
{
    for (const struct subscription *s = subscriptions; s != NULL; s = s->next)
        pack_bytes(pack, name_of(s->topic));
}

int topics_restore(struct topics *topics, struct client *client,
    struct subscription **subscriptions, uint64_t realm, struct unpack *unpack)
{
    while (unpack->left.n > 0 && !unpack->bad) {
        struct span name = unpack_bytes(unpack);
        int r = unpack->bad ? TOPICS_E_NAME
                            : topics_join(topics, client, subscriptions, realm, name, UINT32_MAX);
        if (r != 0)
            return r < 0 ? r : -EBADMSG;
    }
    return 0;
}
