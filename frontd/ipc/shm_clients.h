#pragma once

/* The open connections of clients, in all and for each peer address, over all shards. */

#include <sys/socket.h>

#include "frontd/ipc/shm.h"

/* The open connections of this seat. */
uint64_t share_connections(const struct share *share, unsigned seat);

/* Counts one connection of this seat unless `limit` are open over all shards. */
bool share_connection_add(struct share *share, unsigned seat, uint64_t limit);
void share_connection_remove(struct share *share, unsigned seat);

/*
 * Sets how many bits of an IPv6 address make the peer: 1 to 128, 64 unless this is called. To be
 * called before the first share_peer_add(). Processes with different prefixes count separately.
 */
void share_set_peer_prefix(struct share *share, unsigned bits);

/*
 * Counts one connection from a peer on this seat, unless `limit` from it are open over all shards;
 * always true for UNIX sockets. An IPv6 address that stands for an IPv4 one (::ffff:192.0.2.7)
 * counts as that.
 */
bool share_peer_add(
    struct share *share, unsigned seat, const struct sockaddr *peer, uint64_t limit);
void share_peer_remove(struct share *share, unsigned seat, const struct sockaddr *peer);
