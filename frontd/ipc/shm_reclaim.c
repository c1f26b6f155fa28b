#include "frontd/ipc/shm_reclaim.h"

#include <string.h>
#include <sys/mman.h>

#include "frontd/ipc/metric_book.h"
#include "frontd/ipc/shm_layout.h"

/* A row whose refs are written all the time is left for the next death. */
enum { RECLAIM_TRIES = 100 };

/* Frees the slots that none of these seats holds. */
static void reclaim_slots(_Atomic uint8_t *slots, uint64_t alive)
{
    for (unsigned s = 0; s < SHARE_SLOTS; s++) {
        uint8_t owner = atomic_load_explicit(&slots[s], memory_order_relaxed);
        /* Only the holder changes it, and its process has ended. */
        if (owner != 0 && (owner > SHARE_SEATS || !(alive >> (owner - 1) & 1)))
            atomic_store(&slots[s], 0);
    }
}

/*
 * Sets unused memory to 0. Whole pages are given back to the system; a page that is not allocated
 * stays so.
 */
static void wipe(void *memory, size_t n)
{
    if (n % PAGE != 0 || madvise(memory, n, MADV_REMOVE) < 0)
        memset(memory, 0, n);
}

/* What a shard has seen that has ended is for others to see. */
static void reclaim_trouble(struct trouble_cell *cell, uint64_t alive)
{
    if ((atomic_load_explicit(&cell->seats, memory_order_relaxed) & ~alive) != 0)
        atomic_fetch_and(&cell->seats, alive);
}

static void reclaim_loads(struct worker_row *row, uint64_t alive)
{
    for (size_t i = 0; i < SHARE_WORKER_TROUBLES; i++)
        reclaim_trouble(&row->troubles[i], alive);
    for (unsigned seat = 0; seat < SHARE_SEATS; seat++) {
        if (alive >> seat & 1)
            continue;
        clear_32(&row->load[seat]);
        clear_32(&row->abandoned[seat]);
        clear_64(&row->oldest[seat]);
        clear_32(&row->waiting_calls[seat]);
        clear_32(&row->waiting_clients[seat]);
        clear_64(&row->sent[seat]);
    }
}

/*
 * refs decides whose row it is: a seat whose process has ended is taken out of it once all that it
 * held has been given back, and a row without a living seat is closed. Another process may write
 * to refs without end, so the tries are counted; the rest is done after the next death.
 */
static void reclaim_row(struct share *share, unsigned index, uint64_t alive)
{
    struct worker_row *row = &share->memory->workers[index];
    for (unsigned tries = 0; tries < RECLAIM_TRIES; tries++) {
        uint64_t refs = atomic_load(&row->refs);
        if ((refs & alive) == 0) {
            /* Even a row that seems to be free: a process may have died after setting the key, and
             * a hostile one may have written anything. */
            if (!atomic_compare_exchange_strong(&row->refs, &refs, CLOSING))
                continue;
            wipe(share->memory->slots[index], SHARE_SLOTS);
            reclaim_loads(row, 0);
            share_finish_closing(row);
            return;
        }
        reclaim_loads(row, alive);
        if ((refs & ~alive & ~CLOSING) == 0)
            return;
        /* The process may have died between taking a slot and counting it: every slot is looked
         * at. */
        reclaim_slots(share->memory->slots[index], alive);
        if (atomic_compare_exchange_strong(&row->refs, &refs, refs & (alive | CLOSING)))
            return;
    }
}

static void reclaim_seat(struct share *share, unsigned seat)
{
    struct memory *memory = share->memory;
    for (unsigned p = 0; p < SHARE_POOLS; p++)
        clear_queue(&memory->queues[p][seat]);
    for (unsigned l = 0; l < SHARE_LIMITS; l++) {
        if (atomic_load_explicit(&memory->limits[l], memory_order_relaxed) != 0)
            clear_32(&memory->limit_calls[l][seat]);
    }
    clear_64(&memory->connections[seat]);
    wipe(&memory->peer_cells[seat * share->peers], share->peers * sizeof(struct peer_cell));
}

bool share_reclaim(struct share *share, uint64_t alive)
{
    alive &= ~CLOSING;
    for (unsigned w = 0; w < SHARE_WORKERS; w++)
        reclaim_row(share, w, alive);
    for (unsigned seat = 0; seat < SHARE_SEATS; seat++) {
        if (!(alive >> seat & 1))
            reclaim_seat(share, seat);
    }
    for (unsigned pool = 0; pool < SHARE_POOLS; pool++) {
        if ((atomic_load(&share->memory->reached[pool]) & ~alive) != 0)
            atomic_fetch_and(&share->memory->reached[pool], alive);
        reclaim_trouble(&share->memory->crowded[pool], alive);
    }
    return metric_book(share, alive);
}
