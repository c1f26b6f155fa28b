#include "frontd/ipc/shm_queues.h"

#include <errno.h>
#include <string.h>

#include "frontd/ipc/shm_layout.h"

int share_pool(const struct share *share, const char *name)
{
    uint64_t key = share_key(share, name);
    for (int i = 0; i < SHARE_POOLS; i++) {
        if (share->table.pools[i] == key)
            return i;
    }
    return -ENOENT;
}

void share_set_pools(struct share *share, const char *const *names, size_t n)
{
    CHECK(n <= SHARE_POOLS);
    bool wanted[SHARE_POOLS] = {false};
    uint64_t *pools = share->table.pools;
    for (size_t i = 0; i < n; i++) {
        int row = share_pool(share, names[i]);
        if (row >= 0)
            wanted[row] = true;
    }
    for (int i = 0; i < SHARE_POOLS; i++)
        pools[i] = wanted[i] ? pools[i] : 0;
    int row = 0;
    for (size_t i = 0; i < n; i++) {
        if (share_pool(share, names[i]) >= 0)
            continue;
        while (pools[row] != 0)
            row++;
        pools[row] = share_key(share, names[i]);
        /* The row was free: what is in it is left over. */
        for (unsigned seat = 0; seat < SHARE_SEATS; seat++)
            clear_queue(&share->memory->queues[row][seat]);
        clear_64(&share->memory->reached[row]);
        atomic_store(&share->memory->holds.paused[row], 0);
    }
}

void share_pool_set_reached(struct share *share, unsigned seat, unsigned pool, bool reached)
{
    _Atomic uint64_t *seats = &share->memory->reached[pool];
    if (reached)
        atomic_fetch_or(seats, share_seat_bit(seat));
    else
        atomic_fetch_and(seats, ~share_seat_bit(seat));
}

void share_pool_set_workers(
    struct share *share, unsigned seat, unsigned pool, const struct share_pool_workers *workers)
{
    struct queue_cell *cell = &share->memory->queues[pool][seat];
    atomic_store_explicit(&cell->ready, workers->ready, memory_order_relaxed);
    atomic_store_explicit(&cell->known, workers->known, memory_order_relaxed);
    atomic_store_explicit(&cell->slots, workers->slots, memory_order_relaxed);
    atomic_store_explicit(&cell->hung, workers->hung, memory_order_relaxed);
    atomic_store_explicit(&cell->drained, workers->drained, memory_order_relaxed);
    atomic_store_explicit(&cell->ejected, workers->ejected, memory_order_relaxed);
}

struct share_pool_workers share_pool_workers(const struct share *share, unsigned pool)
{
    struct share_pool_workers most = {0};
    uint32_t seats = seats_in_use(share);
    for (uint32_t i = 0; i < seats; i++) {
        const struct queue_cell *cell = &share->memory->queues[pool][i];
        struct share_pool_workers workers = {
            .ready = atomic_load_explicit(&cell->ready, memory_order_relaxed),
            .known = atomic_load_explicit(&cell->known, memory_order_relaxed),
            .slots = atomic_load_explicit(&cell->slots, memory_order_relaxed),
            .hung = atomic_load_explicit(&cell->hung, memory_order_relaxed),
            .drained = atomic_load_explicit(&cell->drained, memory_order_relaxed),
            .ejected = atomic_load_explicit(&cell->ejected, memory_order_relaxed),
        };
        if (workers.ready > most.ready ||
            (workers.ready == most.ready && workers.known > most.known))
            most = workers;
    }
    return most;
}

uint64_t share_pool_reached(const struct share *share, unsigned pool)
{
    return atomic_load(&share->memory->reached[pool]);
}

bool share_queue_add(struct share *share, unsigned seat, unsigned pool, uint32_t limit)
{
    note_seat(share, seat);
    if (share_queue_waiting(share, pool) >= limit)
        return false;
    atomic_fetch_add(&share->memory->queues[pool][seat].queued, 1);
    return true;
}

void share_queue_remove(struct share *share, unsigned seat, unsigned pool)
{
    take_one_32(&share->memory->queues[pool][seat].queued);
}

uint64_t share_queue_waiting(const struct share *share, unsigned pool)
{
    uint32_t seats = seats_in_use(share);
    uint64_t waiting = 0;
    for (uint32_t i = 0; i < seats; i++)
        waiting += atomic_load_explicit(
            &share->memory->queues[pool][i].queued, memory_order_relaxed);
    return waiting;
}

uint64_t share_queue_ahead(const struct share *share, unsigned pool, uint32_t own)
{
    uint32_t seats = seats_in_use(share);
    uint64_t each = (uint64_t)own + 1; /* of another client */
    uint64_t ahead = 0;
    for (uint32_t i = 0; i < seats; i++) {
        const struct queue_cell *cell = &share->memory->queues[pool][i];
        uint64_t queued = atomic_load_explicit(&cell->queued, memory_order_relaxed);
        uint64_t largest = atomic_load_explicit(&cell->largest, memory_order_relaxed);
        uint64_t spare = atomic_load_explicit(&cell->spare, memory_order_relaxed);
        uint64_t clients = queued - MIN(spare, queued);
        uint64_t behind = largest > each ? MIN(largest - each, queued) : 0;
        ahead += MIN(queued - behind, clients * each);
    }
    return ahead;
}

void share_queue_set_oldest(struct share *share, unsigned seat, unsigned pool, uint64_t since)
{
    /* Sequentially consistent on purpose. A shard with a waiting call writes this and then looks
     * for a free slot; a shard that frees a slot then reads this. So one of the two sees the
     * other. */
    atomic_store(&share->memory->queues[pool][seat].oldest, since);
}

bool share_queue_oldest_but(const struct share *share, uint64_t skip, unsigned pool,
    unsigned *ret_seat, uint64_t *ret_since)
{
    const struct queue_cell *cells = share->memory->queues[pool];
    return share_find_oldest(share, skip, &cells->oldest, sizeof(*cells), ret_seat, ret_since);
}

void share_queue_set_largest(
    struct share *share, unsigned seat, unsigned pool, uint32_t count, uint32_t spare)
{
    struct queue_cell *cell = &share->memory->queues[pool][seat];
    atomic_store_explicit(&cell->largest, count, memory_order_relaxed);
    atomic_store_explicit(&cell->spare, spare, memory_order_relaxed);
}

uint32_t share_queue_largest(const struct share *share, unsigned pool, unsigned *ret_seat)
{
    uint32_t seats = seats_in_use(share);
    uint32_t largest = 0;
    for (uint32_t i = 0; i < seats; i++) {
        const struct queue_cell *cell = &share->memory->queues[pool][i];
        uint32_t count = atomic_load_explicit(&cell->largest, memory_order_relaxed);
        uint32_t spare = atomic_load_explicit(&cell->spare, memory_order_relaxed);
        if (count > largest && spare > atomic_load(&cell->owed)) {
            largest = count;
            *ret_seat = i;
        }
    }
    return largest;
}

void share_queue_owe(struct share *share, unsigned seat, unsigned pool)
{
    atomic_fetch_add(&share->memory->queues[pool][seat].owed, 1);
}

uint32_t share_queue_settle(struct share *share, unsigned seat, unsigned pool)
{
    _Atomic uint32_t *owed = &share->memory->queues[pool][seat].owed;
    return atomic_load(owed) == 0 ? 0 : atomic_exchange(owed, 0);
}
