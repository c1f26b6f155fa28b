#include "frontd/ipc/shm_limits.h"

#include "frontd/ipc/shm_layout.h"

int share_limit_row(struct share *share, uint64_t id)
{
    for (uint32_t n = 0; n < SHARE_LIMITS; n++) {
        uint32_t at = (uint32_t)((id + n) % SHARE_LIMITS);
        uint64_t found = 0;
        if (atomic_load(&share->memory->limits[at]) == id ||
            atomic_compare_exchange_strong(&share->memory->limits[at], &found, id) || found == id)
            return (int)at;
    }
    return -1;
}

bool share_limit_add(struct share *share, unsigned seat, int row, uint32_t most)
{
    _Atomic uint32_t *of = share->memory->limit_calls[row];
    uint32_t seats = seats_in_use(share);
    uint64_t calls = 0;
    note_seat(share, seat);
    for (uint32_t i = 0; i < seats; i++)
        calls += atomic_load_explicit(&of[i], memory_order_relaxed);
    if (calls >= most)
        return false;
    atomic_fetch_add(&of[seat], 1);
    return true;
}

void share_limit_remove(struct share *share, unsigned seat, int row)
{
    take_one_32(&share->memory->limit_calls[row][seat]);
}

/*
 * The cell of a key in its set: its own, or one that is free or paid for (which is as good as
 * free), or the one that is nearest to it.
 */
static struct rate_cell *find(struct rate_cell *set, uint64_t key, uint64_t now)
{
    struct rate_cell *best = NULL;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < SHARE_RATE_WAYS; i++) {
        uint64_t found = atomic_load_explicit(&set[i].key, memory_order_relaxed);
        uint64_t at = atomic_load_explicit(&set[i].at, memory_order_relaxed);
        if (found == key)
            return &set[i];
        if (found == 0 || at <= now)
            at = 0;
        if (at < least) {
            least = at;
            best = &set[i];
        }
    }
    best = best == NULL ? set : best;
    atomic_store(&best->key, key);
    atomic_store(&best->at, 0);
    return best;
}

/* The generic cell rate algorithm: of a bucket nothing is kept but when it is full again. */
uint64_t share_rate_take(struct share *share, uint64_t id, struct span of, uint64_t now,
    uint64_t interval, uint32_t burst)
{
    uint64_t key = (hash_bytes(&share->table.key, of.p, of.n) ^ id * 0x9e3779b97f4a7c15ULL) | 1;
    struct rate_cell *cell = find(share->memory->rates[(key >> 1) % SHARE_RATE_SETS], key, now);
    uint64_t room = interval * burst;
    uint64_t at = atomic_load(&cell->at);
    for (;;) {
        /* A time that no call of this rate has led to is another process's mistake. */
        uint64_t from = at > now + room ? now : MAX(at, now);
        if (from + interval > now + room)
            return from + interval - now - room;
        if (atomic_compare_exchange_weak(&cell->at, &at, from + interval))
            return 0;
    }
}
