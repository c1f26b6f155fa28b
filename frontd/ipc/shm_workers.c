#include "frontd/ipc/shm_workers.h"

#include <errno.h>
#include <sched.h>

#include "frontd/ipc/shm_layout.h"

void share_finish_closing(struct worker_row *row)
{
    atomic_store(&row->hint, 0);
    atomic_store(&row->hung, 0);
    atomic_store(&row->address, 0);
    atomic_store(&row->came, 0);
    atomic_store(&row->calls, 0);
    for (size_t i = 0; i < SHARE_WORKER_TROUBLES; i++) {
        clear_64(&row->troubles[i].seats);
        clear_64(&row->troubles[i].since);
    }
    atomic_store(&row->key, 0);
    atomic_store(&row->refs, 0);
}

/* Takes the seat's bit, which is set, out of refs. */
static void drop_ref(struct worker_row *row, unsigned seat)
{
    uint64_t bit = (uint64_t)1 << seat;
    uint64_t refs = atomic_load(&row->refs);
    while (
        !atomic_compare_exchange_weak(&row->refs, &refs, refs == bit ? CLOSING | bit : refs & ~bit))
        ;
    if (refs == bit)
        share_finish_closing(row);
}

/*
 * A row is freed in a few instructions, or when the supervisor has noticed the death of a process.
 */
enum { TRIES_BUSY = 100, TRIES_MAX = 200 * 1000 };

/* How often this process uses a row; its bit in refs is set while it does. */
static uint16_t uses[SHARE_SEATS][SHARE_WORKERS];

/* Joins the row if it is the worker's, or free. Returns whether this seat uses it now. */
static bool join_row(struct worker_row *row, unsigned seat, uint64_t key)
{
    uint64_t found = 0;
    if (!atomic_compare_exchange_strong(&row->key, &found, key) && found != key)
        return false;
    uint64_t refs = atomic_load(&row->refs);
    do {
        if (refs & CLOSING)
            return false; /* for two instructions, or until the process's death is noticed */
    } while (!atomic_compare_exchange_weak(&row->refs, &refs, refs | (uint64_t)1 << seat));
    if (atomic_load(&row->key) == key)
        return true;
    drop_ref(row, seat); /* freed in between, perhaps taken by another worker */
    return false;
}

/* The first row from `home` on that has the key, except one; -1 where there is none. */
static int find_row(const struct share *share, unsigned home, uint64_t key, int except)
{
    for (unsigned i = 0; i < SHARE_WORKERS; i++) {
        int index = (int)((home + i) % SHARE_WORKERS);
        if (index != except && atomic_load(&share->memory->workers[index].key) == key)
            return index;
    }
    return -1;
}

int share_worker_get(struct share *share, unsigned seat, const void *id, size_t n)
{
    note_seat(share, seat);
    uint64_t key = hash_bytes(&share->table.key, id, n) | 1;
    unsigned home = (unsigned)(key >> 1) % SHARE_WORKERS;
    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        if (tries >= TRIES_BUSY)
            sched_yield();
        int index = find_row(share, home, key, -1);
        if (index < 0)
            index = find_row(share, home, 0, -1);
        if (index < 0)
            return -ENOSPC;
        if (uses[seat][index] == 0) {
            if (!join_row(&share->memory->workers[index], seat, key))
                continue;
            /* Two processes may take two rows at once. Each looks after it has taken one, so at
             * least one of them sees the other's row, and gives its own back. */
            if (find_row(share, home, key, index) >= 0) {
                drop_ref(&share->memory->workers[index], seat);
                continue;
            }
        }
        uses[seat][index]++;
        return index;
    }
    return -ENOSPC; /* a row stays between two steps all the time */
}

void share_worker_put(struct share *share, unsigned seat, int worker)
{
    CHECK(uses[seat][worker] > 0);
    if (--uses[seat][worker] > 0)
        return;
    atomic_store(&share->memory->workers[worker].load[seat],
        0); /* it is 0 already, unless another process wrote it */
    atomic_store(&share->memory->workers[worker].oldest[seat], 0);
    share_worker_set_waiting(share, seat, worker, (struct share_waiting){0});
    atomic_store(&share->memory->workers[worker].sent[seat], 0);
    drop_ref(&share->memory->workers[worker], seat);
}

uint32_t share_worker_load(const struct share *share, int worker)
{
    const struct worker_row *row = &share->memory->workers[worker];
    uint32_t seats = seats_in_use(share);
    uint32_t load = 0;
    for (uint32_t i = 0; i < seats; i++)
        load += atomic_load_explicit(&row->load[i], memory_order_relaxed);
    return load;
}

void share_worker_add_abandoned(struct share *share, unsigned seat, int worker, int change)
{
    atomic_fetch_add(&share->memory->workers[worker].abandoned[seat], (uint32_t)change);
}

uint32_t share_worker_awaited(const struct share *share, int worker)
{
    const struct worker_row *row = &share->memory->workers[worker];
    uint32_t awaited = 0;
    for (uint32_t i = 0; i < SHARE_SEATS; i++) {
        uint32_t load = atomic_load(&row->load[i]);
        uint32_t abandoned = atomic_load(&row->abandoned[i]);
        awaited += load > abandoned ? load - abandoned : 0;
    }
    return awaited;
}

void share_worker_meet(struct share *share, int worker, uint64_t now)
{
    uint64_t never = 0;
    atomic_compare_exchange_strong(&share->memory->workers[worker].came, &never, MAX(now, 1U));
}

void share_worker_set_back(struct share *share, int worker, uint64_t now)
{
    atomic_store(&share->memory->workers[worker].came, MAX(now, 1U));
}

uint64_t share_worker_came(const struct share *share, int worker)
{
    return atomic_load_explicit(&share->memory->workers[worker].came, memory_order_relaxed);
}

void share_worker_count_call(struct share *share, int worker)
{
    atomic_fetch_add_explicit(&share->memory->workers[worker].calls, 1, memory_order_relaxed);
}

void share_worker_set_hung(struct share *share, int worker, uint64_t since)
{
    atomic_store(&share->memory->workers[worker].hung, since);
}

uint64_t share_worker_hung(const struct share *share, int worker)
{
    return atomic_load_explicit(&share->memory->workers[worker].hung, memory_order_relaxed);
}

void share_worker_set_oldest(struct share *share, unsigned seat, int worker, uint64_t since)
{
    atomic_store(&share->memory->workers[worker].oldest[seat], since);
}

bool share_worker_oldest_but(
    const struct share *share, uint64_t skip, int worker, unsigned *ret_seat, uint64_t *ret_since)
{
    const _Atomic uint64_t *oldest = share->memory->workers[worker].oldest;
    return share_find_oldest(share, skip, oldest, sizeof(*oldest), ret_seat, ret_since);
}

void share_worker_set_waiting(
    struct share *share, unsigned seat, int worker, struct share_waiting waiting)
{
    struct worker_row *row = &share->memory->workers[worker];
    atomic_store_explicit(&row->waiting_calls[seat], waiting.calls, memory_order_relaxed);
    atomic_store_explicit(&row->waiting_clients[seat], waiting.clients, memory_order_relaxed);
}

uint64_t share_worker_ahead(const struct share *share, int worker, uint32_t own)
{
    const struct worker_row *row = &share->memory->workers[worker];
    uint32_t seats = seats_in_use(share);
    uint64_t ahead = 0;
    for (uint32_t i = 0; i < seats; i++) {
        uint64_t calls = atomic_load_explicit(&row->waiting_calls[i], memory_order_relaxed);
        uint64_t clients = atomic_load_explicit(&row->waiting_clients[i], memory_order_relaxed);
        ahead += MIN(calls, clients * ((uint64_t)own + 1));
    }
    return ahead;
}

static bool try_slot(_Atomic uint8_t *slot, unsigned seat)
{
    uint8_t free_slot = 0;
    return atomic_load_explicit(slot, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong(slot, &free_slot, (uint8_t)(seat + 1));
}

static void add_load(struct worker_row *row, unsigned seat, int change)
{
    /* Only this seat writes it, so this need not be one instruction. */
    uint32_t load = atomic_load_explicit(&row->load[seat], memory_order_relaxed);
    load = change < 0 && load == 0 ? 0 : load + (uint32_t)change;
    atomic_store_explicit(&row->load[seat], load, memory_order_release);
}

bool share_slot_take(
    struct share *share, unsigned seat, int worker, uint32_t concurrency, int *ret_slot)
{
    struct worker_row *row = &share->memory->workers[worker];
    if (concurrency == 0) {
        add_load(row, seat, 1);
        *ret_slot = SHARE_SLOT_NONE;
        return true;
    }
    concurrency = MIN(concurrency, (uint32_t)SHARE_SLOTS);
    /* Saves the walk where it is full. Others take and give while the sum is made, so it may say so
     * where a slot has just become free; it is seen when the caller tries again. */
    if (share_worker_load(share, worker) >= concurrency)
        return false;
    _Atomic uint8_t *slots = share->memory->slots[worker];
    uint32_t hint = atomic_load_explicit(&row->hint, memory_order_relaxed);
    if (hint >= concurrency)
        hint = 0;
    for (uint32_t i = 0; i < concurrency; i++) {
        uint32_t slot = hint + i < concurrency ? hint + i : hint + i - concurrency;
        if (try_slot(&slots[slot], seat)) {
            add_load(row, seat, 1);
            atomic_store_explicit(
                &row->hint, slot + 1 < concurrency ? slot + 1 : 0, memory_order_relaxed);
            *ret_slot = (int)slot;
            return true;
        }
    }
    return false;
}

void share_slot_give(struct share *share, unsigned seat, int worker, int slot)
{
    struct worker_row *row = &share->memory->workers[worker];
    add_load(row, seat, -1);
    if (slot == SHARE_SLOT_NONE)
        return;
    uint8_t ours = (uint8_t)(seat + 1); /* unless another process has written there */
    atomic_compare_exchange_strong(&share->memory->slots[worker][slot], &ours, 0);
    atomic_store_explicit(&row->hint, (uint32_t)slot, memory_order_relaxed);
}

void share_worker_describe(
    struct share *share, int worker, const char *address, int64_t pid, uint32_t concurrency)
{
    struct worker_row *row = &share->memory->workers[worker];
    atomic_store(&row->address, share_key(share, address));
    atomic_store(&row->pid, (uint64_t)pid);
    atomic_store(&row->concurrency, concurrency);
}

void share_worker_set_sent(struct share *share, unsigned seat, int worker, uint64_t sent)
{
    atomic_store_explicit(&share->memory->workers[worker].sent[seat], sent, memory_order_relaxed);
}

static uint32_t sum(const _Atomic uint32_t *words)
{
    uint32_t all = 0;
    for (size_t i = 0; i < SHARE_SEATS; i++)
        all += atomic_load_explicit(&words[i], memory_order_relaxed);
    return all;
}

bool share_worker_next(
    const struct share *share, const char *address, int *at, struct share_worker_view *ret_view)
{
    uint64_t key = address == NULL ? 0 : share_key(share, address);
    for (; *at < SHARE_WORKERS; (*at)++) {
        const struct worker_row *row = &share->memory->workers[*at];
        uint64_t refs = atomic_load(&row->refs) & ~CLOSING;
        if (refs == 0 || (key != 0 && atomic_load(&row->address) != key))
            continue;
        *ret_view = (struct share_worker_view){
            .pid = (int64_t)atomic_load(&row->pid),
            .concurrency = atomic_load(&row->concurrency),
            .load = sum(row->load),
            .abandoned = sum(row->abandoned),
            .calls = atomic_load(&row->calls),
            .came = atomic_load(&row->came),
            .hung = atomic_load(&row->hung),
            .seats = refs,
        };
        unsigned seat;
        share_find_oldest(share, 0, row->sent, sizeof(*row->sent), &seat, &ret_view->sent);
        (*at)++;
        return true;
    }
    return false;
}
