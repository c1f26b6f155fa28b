#pragma once

/*
 * The keys of session tickets as the supervisor holds them (ipc/tls_tickets.h): in memory that no
 * core dump has, and over an execve() in a memfd.
 */

#include "frontd/ipc/tls_tickets.h"

struct ticket_ring {
    struct tls_ticket_keys *keys; /* NULL: there have been none yet */
};

/*
 * Brings the keys up to date, with the time and random bytes of now: tls_tickets_step(). Returns
 * whether shards have to be told; without memory there are no keys, and no tickets.
 */
bool ticket_ring_step(struct ticket_ring *ring, uint64_t lifetime);

/* ms until the next step is due; UINT64_MAX: never. */
uint64_t ticket_ring_due(const struct ticket_ring *ring, uint64_t lifetime);

/*
 * Takes keys that another process has had, in place of those that are there. keys: copied; none of
 * them are taken where they are not valid. Returns whether they were taken.
 */
bool ticket_ring_set(struct ticket_ring *ring, const struct tls_ticket_keys *keys);

/* How many keys there are. */
static inline uint64_t ticket_ring_count(const struct ticket_ring *ring)
{
    return ring->keys == NULL ? 0 : ring->keys->count;
}

/*
 * Writes the keys for the program that is executed in this one's place. Returns a memfd,
 * close-on-exec, the caller's; -ENOENT: there are no keys; or another -errno.
 */
int ticket_ring_save(const struct ticket_ring *ring);

/* Reads them. fd: borrowed. Returns 0 or -errno; -EBADMSG: they are of another version. */
int ticket_ring_restore(struct ticket_ring *ring, int fd);

/* Overwrites the keys and gives them back. */
void ticket_ring_deinit(struct ticket_ring *ring);
