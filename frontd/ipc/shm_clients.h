#pragma once

/* The open connections of clients, in all and for each peer address, over all shards. */

#include <sys/socket.h>

#include "frontd/ipc/shm.h"

/* How many connections this seat has. */
uint64_t share_connections(const struct share *share, unsigned seat);

/* Counts one connection of this seat unless `limit` are open over all shards. */
bool share_connection_add(struct share *share, unsigned seat, uint64_t limit);
void share_connection_remove(struct share *share, unsigned seat);

/*
 * Of an IPv6 address so many bits, 1 to 128, make the peer, from the first share_peer_add() on; 64
 * where it is not said. Processes with other prefixes count for themselves, also where the bits are
 * the same.
 */
void share_set_peer_prefix(struct share *share, unsigned bits);

/*
 * The same for the connections from one peer; always true for UNIX sockets. An IPv6 address that
 * stands for an IPv4 one (::ffff:192.0.2.7) counts as that.
 */
bool share_peer_add(
    struct share *share, unsigned seat, const struct sockaddr *peer, uint64_t limit);
void share_peer_remove(struct share *share, unsigned seat, const struct sockaddr *peer);
