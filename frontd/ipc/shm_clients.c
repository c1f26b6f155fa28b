#include "frontd/ipc/shm_clients.h"

#include <netinet/in.h>
#include <string.h>

#include "common/peer.h"
#include "frontd/ipc/shm_layout.h"

uint64_t share_connections(const struct share *share, unsigned seat)
{
    return atomic_load_explicit(&share->memory->connections[seat], memory_order_relaxed);
}

bool share_connection_add(struct share *share, unsigned seat, uint64_t limit)
{
    note_seat(share, seat);
    uint64_t open = 0;
    uint32_t seats = seats_in_use(share);
    for (uint32_t i = 0; i < seats; i++)
        open += atomic_load_explicit(&share->memory->connections[i], memory_order_relaxed);
    if (open >= limit)
        return false;
    atomic_fetch_add(&share->memory->connections[seat], 1);
    return true;
}

void share_connection_remove(struct share *share, unsigned seat)
{
    take_one(&share->memory->connections[seat]);
}

void share_set_peer_prefix(struct share *share, unsigned bits)
{
    CHECK(bits >= 1 && bits <= 128);
    share->peer_prefix = bits;
}

/* The key of an IPv6 peer: its bits and their number, so that keys of two prefixes differ. */
static uint64_t ipv6_key(const struct share *share, const struct in6_addr *address)
{
    uint8_t bytes[sizeof(*address) + 1] = {0};
    if (IN6_IS_ADDR_V4MAPPED(address))
        return hash_bytes(&share->table.key, &address->s6_addr[12], 4) | 1;
    memcpy(bytes, address, sizeof(*address));
    peer_mask(bytes, share->peer_prefix);
    bytes[sizeof(*address)] = (uint8_t)share->peer_prefix;
    return hash_bytes(&share->table.key, bytes, sizeof(bytes)) | 1;
}

/* 0: the peer has no address that is counted. */
static uint64_t peer_key(const struct share *share, const struct sockaddr *peer)
{
    if (share->peers == 0)
        return 0;
    if (peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        return hash_bytes(&share->table.key, &in->sin_addr, sizeof(in->sin_addr)) | 1;
    }
    if (peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        return ipv6_key(share, &in6->sin6_addr);
    }
    return 0;
}

/* The cell of a key on a seat, or the free cell where it would be. Half of the cells are free. */
static size_t find_peer(const struct peer_cell *cells, size_t mask, uint64_t key)
{
    size_t i = (size_t)(key >> 1) & mask;
    for (size_t n = 0; n <= mask; n++, i = (i + 1) & mask) {
        uint64_t found = atomic_load_explicit(&cells[i].key, memory_order_relaxed);
        if (found == key || found == 0)
            return i;
    }
    return i;
}

bool share_peer_add(struct share *share, unsigned seat, const struct sockaddr *peer, uint64_t limit)
{
    uint64_t key = peer_key(share, peer);
    if (key == 0)
        return true;
    note_seat(share, seat);
    size_t mask = share->peers - 1;
    uint64_t open = 0;
    uint32_t seats = seats_in_use(share);
    for (uint32_t i = 0; i < seats; i++) {
        struct peer_cell *cells = &share->memory->peer_cells[i * share->peers];
        size_t at = find_peer(cells, mask, key);
        if (atomic_load(&cells[at].key) == key)
            open += atomic_load(&cells[at].count);
    }
    if (open >= limit)
        return false;
    struct peer_cell *cells = &share->memory->peer_cells[seat * share->peers];
    size_t at = find_peer(cells, mask, key);
    uint64_t found = atomic_load(&cells[at].key);
    if (found != key && found != 0)
        return true; /* no cell is free, which only another process's writes can cause: not counted
                      */
    atomic_fetch_add(&cells[at].count, 1);
    atomic_store(&cells[at].key, key);
    return true;
}

void share_peer_remove(struct share *share, unsigned seat, const struct sockaddr *peer)
{
    uint64_t key = peer_key(share, peer);
    if (key == 0)
        return;
    size_t mask = share->peers - 1;
    struct peer_cell *cells = &share->memory->peer_cells[seat * share->peers];
    size_t hole = find_peer(cells, mask, key);
    if (atomic_load(&cells[hole].key) != key)
        return;
    if (atomic_fetch_sub(&cells[hole].count, 1) > 1)
        return;
    /* The gap is closed, so that no search ends at it too early. A reader on another seat may miss
     * a cell that is being moved, and count too few once. */
    size_t i = (hole + 1) & mask;
    for (size_t n = 0; n < mask && cells[i].key != 0; n++, i = (i + 1) & mask) {
        size_t home = (size_t)(cells[i].key >> 1) & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        atomic_store(&cells[hole].count, cells[i].count);
        atomic_store(&cells[hole].key, cells[i].key);
        hole = i;
    }
    atomic_store(&cells[hole].key, 0);
    atomic_store(&cells[hole].count, 0);
}
