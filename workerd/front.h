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
    struct channel *usual; /* where frames go that belong to no call; NULL: not chosen yet */
    uint64_t id;           /* front_id() of its `instance` (section 4); never 0 */
    bool pushed;           /* frames that are no answers were sent to it */
};

/* Returns the id of a front by its `instance`. */
uint64_t front_id(const char *instance);

/*
 * Adds a channel that is open now to the front of that instance. Channels of that front that wait
 * for another one look again whether they may close. Returns 0 or -ENOMEM.
 */
int front_join(struct channel *channel, const char *instance);

/* Takes a channel that is not open any more from its front; does nothing the second time. */
void front_leave(struct channel *channel);

/* Returns the front with that id, or NULL. */
struct front *front_find(const struct workerd *worker, uint64_t id);

/*
 * Returns the channel with that serial number if it is one of the front's; else the usual one,
 * which stays the same until it has closed, since between two channels there is no order. A new
 * usual one is the oldest that does not go away; where all do, the oldest. NULL where none is open.
 */
struct channel *front_channel(struct front *front, uint64_t serial);

/* Whether the front has another channel that can be written to. */
bool front_has_other(const struct front *front, const struct channel *channel);

/* Whether the front has a channel that does not go away. */
bool front_stays(const struct front *front);
