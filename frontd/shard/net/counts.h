#pragma once

/*
 * Where this shard counts: its rows of metrics, each of which is looked up when it is first counted
 * in (a row that is not used costs no memory).
 */

#include "frontd/ipc/metric_rows.h"

enum {
    COUNTS_METHODS = 1024,    /* names that are remembered, each at a place of its own */
    COUNTS_METHOD_BYTES = 55, /* a longer one is not counted by itself */
};

struct counts_method {
    struct method_words *words; /* NULL: nothing is known of what would be here */
    uint8_t n;
    char name[COUNTS_METHOD_BYTES];
};
_Static_assert(sizeof(struct counts_method) == 64, "a cache line");

struct counts {
    struct share *share;
    unsigned seat;
    const struct conf *conf;
    struct metric_rows rows;
    struct shard_words *shard;
    struct listener_words *listeners[CONF_LISTENERS_MAX];
    struct route_words *none[CONF_LISTENERS_MAX];
    struct route_words **routes;
    struct pair_words **pairs;
    struct pair_words *other; /* of a pool that the route does not name */
    struct counts_method *methods;
    uint64_t log_dropped; /* lines that are counted */
    struct method_words *other_method;
    bool methods_full; /* a method without a row of its own gets none any more */
};

/* Returns 0 or -ENOMEM. share, conf: borrowed. */
int counts_init(struct counts *counts, struct share *share, unsigned seat, const struct conf *conf);

/* Accepts one that is zeroed. */
void counts_deinit(struct counts *counts);

/* For the functions below: each is called once for a row. */
struct listener_words *counts_begin_listener(struct counts *counts, uint32_t listener);
struct route_words *counts_begin_route(struct counts *counts, const struct conf_route *route);
struct route_words *counts_begin_none(struct counts *counts, uint32_t listener);
struct pair_words *counts_begin_pair(struct counts *counts, uint32_t pair);
struct pair_words *counts_other_pair(struct counts *counts);

/* listener: its place in the config. */
static inline struct listener_words *counts_listener(struct counts *counts, uint32_t listener)
{
    struct listener_words *words = counts->listeners[listener];
    return LIKELY(words != NULL) ? words : counts_begin_listener(counts, listener);
}

/* route: NULL: none was found, for a request of that listener. */
static inline struct route_words *counts_route(
    struct counts *counts, const struct conf_route *route, uint32_t listener)
{
    struct route_words *words;
    if (UNLIKELY(route == NULL)) {
        words = counts->none[listener];
        return words != NULL ? words : counts_begin_none(counts, listener);
    }
    words = counts->routes[route->number];
    return LIKELY(words != NULL) ? words : counts_begin_route(counts, route);
}

/* pool: its place in the config. */
static inline struct pair_words *counts_pair(
    struct counts *counts, const struct conf_route *route, uint32_t pool)
{
    for (uint32_t i = 0; i < route->npools; i++) {
        if (LIKELY(route->pools[i] == pool)) {
            struct pair_words *words = counts->pairs[route->pair + i];
            return LIKELY(words != NULL) ? words : counts_begin_pair(counts, route->pair + i);
        }
    }
    return counts_other_pair(counts);
}

/*
 * The words of a method. place: any number that goes with the name, so that it is found at once.
 * may_begin: whether it gets a row where it has none yet, and there is one: a worker has taken it.
 */
struct method_words *counts_method(
    struct counts *counts, unsigned place, struct span name, bool may_begin);
