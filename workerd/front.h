#pragma once

/*
 * The fronts that are connected. One front has a channel from each of its shards; what is sent
 * about a connection, or to a topic, goes on one channel of the front (protocol section 9).
 */

#include "common/list.h"
#include "workerd/channel.h"

struct front {
    struct list node;      /* worker->fronts */
    struct list channels;  /* open ones, oldest first */
    struct channel *usual; /* where goes what no call decides; NULL: not chosen yet */
    uint64_t id;           /* front_id() of its `instance` (section 4); never 0 */
    bool pushed;           /* it has been sent what is no answer */
};

/* The id of a front by its `instance`. */
uint64_t front_id(const char *instance);

/*
 * A channel is open: it joins the front of that instance, and those of its channels that wait for
 * one like it need not any longer. Returns 0 or -ENOMEM.
 */
int front_join(struct channel *channel, const char *instance);

/* The channel is not open any more; does nothing where it has left already. */
void front_leave(struct channel *channel);

/* The front with that id, or NULL. */
struct front *front_find(const struct workerd *worker, uint64_t id);

/*
 * The channel with that serial number if it is one of the front's; else the usual one, which stays
 * the same until it has closed, since between two channels there is no order. A new one is the
 * oldest that does not go away, or where all do the oldest; NULL where none is open.
 */
struct channel *front_channel(struct front *front, uint64_t serial);

/* Whether the front has another channel that can be written to. */
bool front_has_other(const struct front *front, const struct channel *channel);

/* Whether the front has a channel that does not go away. */
bool front_stays(const struct front *front);
