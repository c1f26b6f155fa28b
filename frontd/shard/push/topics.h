#pragma once

/*
 * Which of this shard's connections have subscribed to which topics. A topic belongs to a realm
 * (struct conf_pool): the same name in two realms is two topics.
 */

#include "common/pack.h"
#include "common/siphash.h"
#include "common/slab.h"

struct client;

enum { TOPIC_NAME_MAX = 255 /* bytes */ };

struct topic;

/* One connection's membership in one topic. */
struct subscription {
    struct subscription *next; /* of the same connection */
    struct topic *topic;
    uint32_t index; /* in the topic's members */
};

/* The members of a topic, in no order. */
struct topic_members {
    struct client **clients;
    uint32_t count;
};

/*
 * A walk over the members that a topic has when it begins, over as many turns as it takes: one that
 * joins meanwhile is left out, one that leaves is not met any more, and none is met twice. The
 * topic has a pointer to the walk until it is over: it may not move in memory.
 */
struct topic_walk {
    struct topic_walk *next; /* of the same topic */
    struct topic *topic;     /* NULL: it is over */
    uint32_t left;           /* the members [0 .. left - 1] are still to be met */
};

/*
 * A look at all topics that there are when it begins, over as many turns as it takes: each is met
 * once, one that goes meanwhile at most once. It may not move in memory until it is over.
 */
struct topic_list {
    struct topic_list *next; /* of the same `topics` */
    struct topics *topics;   /* NULL: it is over */
    struct topic *at;        /* to be met next */
    uint64_t last;           /* the number of the youngest topic that is to be met */
};

/* A topic, as a list tells of it. */
struct topic_entry {
    struct span name; /* borrowed until one leaves */
    uint64_t realm;
    uint32_t members;
};

/* All topics of a shard. */
struct topics {
    struct topic *table; /* a hash table; NULL: there are none */
    struct hash_key key; /* of the table */
    struct slab slab;    /* of subscriptions */
    struct topic_list *lists;
    uint64_t made; /* topics so far: the number of each counts up */
    struct subscription *(*subscriptions_of)(struct client *client);
};

/* of: returns the first subscription of a connection. */
void topics_init(struct topics *topics, struct subscription *(*of)(struct client *client));

/* CHECKs that there are no subscriptions any more. */
void topics_deinit(struct topics *topics);

/* Results of topics_join() besides 0. */
enum {
    TOPICS_E_NAME = 1,  /* empty or over TOPIC_NAME_MAX */
    TOPICS_E_LIMIT = 2, /* the connection has `limit` subscriptions */
};

/*
 * Subscribes a connection; once is enough.
 *
 * subscriptions: the connection's. limit: the most that it may have.
 * Returns 0, TOPICS_E_* or -ENOMEM.
 */
int topics_join(struct topics *topics, struct client *client, struct subscription **subscriptions,
    uint64_t realm, struct span name, uint32_t limit);

/* Unsubscribes a connection from one topic, or (name.p NULL) from all, of any realm. */
void topics_leave(
    struct topics *topics, struct subscription **subscriptions, uint64_t realm, struct span name);

/* Bytes that these take, with their share of topics that others have joined as well. */
size_t topics_held(const struct subscription *subscriptions);

/* For another process: the names of the topics. Their realm is what the connection's is there. */
void topics_save(const struct subscription *subscriptions, struct pack *pack);

/*
 * Subscribes a connection that has no subscriptions to what was saved, however many, as topics of
 * that realm.
 * Returns 0, -EBADMSG or -ENOMEM: what was subscribed by then is left to topics_leave().
 */
int topics_restore(struct topics *topics, struct client *client,
    struct subscription **subscriptions, uint64_t realm, struct unpack *unpack);

/* Begins a walk. It is over at once where the topic has no members. */
void topics_walk(
    const struct topics *topics, struct topic_walk *walk, uint64_t realm, struct span name);

/* The next member; NULL: there are no more, and the walk is over. */
struct client *topics_next(struct topic_walk *walk);

/* Ends a walk before that; accepts one that is over. */
void topics_stop(struct topic_walk *walk);

/* Begins a list of all topics. */
void topics_list(struct topics *topics, struct topic_list *list);

/* The next one. Returns false where there are no more, and the list is over. */
bool topics_list_next(struct topic_list *list, struct topic_entry *ret_entry);

/* Ends a list before that; accepts one that is over, and one that is zeroed. */
void topics_list_stop(struct topic_list *list);

/* Whether one of these is of a topic of that name; how many there are. Both look at each of them.
 */
bool topics_has(const struct subscription *subscriptions, struct span name);
uint32_t topics_count(const struct subscription *subscriptions);

/* The members of a topic; count 0 where there are none. Valid until one joins or leaves. */
struct topic_members topics_members(const struct topics *topics, uint64_t realm, struct span name);
