#pragma once

/*
 * What ties a duplex connection to a worker (protocol section 9): the process that its calls go to,
 * and the state that workers keep with the connection. Most connections have neither, and cost
 * nothing.
 */

#include "frontd/shard/client/client.h"

#define AFFINITY_NO_POOL UINT32_MAX

struct affinity {
    uint64_t home; /* worker->home of the process that knows the connection; 0: none does */
    uint32_t pool; /* its pool, by number in the config; AFFINITY_NO_POOL: this config has it not */
    uint32_t n;    /* bytes of the state; 0: there is none */
    char state[];
};

/*
 * Of a duplex client: as *affinity, which is NULL or is made here. Returns NULL where there is no
 * memory.
 */
struct affinity *affinity_need(struct client *client);

/*
 * Keeps a state in place of the one that was there; one without bytes is none. Returns 0, or
 * -ENOMEM with the old one kept.
 */
int affinity_keep(struct client *client, struct span state);

/* Frees it, where there is one: the connection is gone. */
void affinity_drop(struct client *client);

/* The process that calls of a connection to that pool are for (worker->home); 0: any. */
uint64_t affinity_home(const struct client *client, uint32_t pool);

/* Bytes that are held. Accepts NULL. */
static inline size_t affinity_held(const struct affinity *affinity)
{
    return affinity == NULL ? 0 : sizeof(*affinity) + affinity->n;
}

/* For another process: the pool goes by its name. */
void affinity_save(const struct affinity *affinity, const struct conf *conf, struct pack *pack);

/* The same, read again. Returns 0, -EBADMSG or -ENOMEM. */
int affinity_restore(struct client *client, struct unpack *unpack);
