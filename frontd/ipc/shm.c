#include "frontd/ipc/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/alloc.h"

/*
 * A worker's row is known by the keyed hash of its address: 64 bits that nobody can collide. refs
 * has a bit for each seat that uses the row. Freeing takes three steps: refs from the last seat's
 * bit to CLOSING | bit, key -> 0, refs -> 0; who finds CLOSING tries again, and where a process
 * dies in between, the supervisor finishes the steps.
 */
static const uint64_t CLOSING = (uint64_t)1 << 63;
_Static_assert(SHARE_SEATS <= 64, "a seat is a bit of refs");

struct worker_row {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t refs;
    _Atomic uint32_t hint;                   /* a slot that was free lately */
    _Atomic uint32_t load[SHARE_SEATS];      /* calls in progress; each seat writes its own */
    _Atomic uint32_t abandoned[SHARE_SEATS]; /* of them, those nobody waits for any more */
    _Atomic uint64_t hung;                   /* ms: given up by a shard then; 0: it was not */
    _Atomic uint64_t oldest[SHARE_SEATS];    /* as in a queue_cell, for this worker alone */
};

_Static_assert(SHARE_SEAT_LAST < 63, "seat 63 would collide with CLOSING");

struct queue_cell {
    _Atomic uint64_t oldest;
    _Atomic uint32_t queued;
    _Atomic uint32_t largest; /* of them, those of the client that has most */
    _Atomic uint32_t spare;   /* of them, those that are not the only one of their client */
    _Atomic uint32_t owed;    /* calls to be given up there for some that others have let in */
};

/* Connections from one peer on one seat: written by that seat alone, read by all. */
struct peer_cell {
    _Atomic uint64_t key;
    _Atomic uint64_t count;
};

enum { PAGE = 4096 };

struct counters_row {
    _Alignas(64) struct share_counters counters; /* no cache line has two writers */
};

/*
 * Every process that has it mapped can write all of it, at any moment. So nothing in here says
 * where anything is: whoever reads a count may get a wrong one, and no more.
 */
struct memory {
    uint64_t layout; /* these two are for programs before, which looked here for what they got: */
    uint64_t size;   /* they refuse it */
    _Atomic uint32_t seats; /* one more than the highest seat in use so far */
    _Atomic uint64_t connections[SHARE_SEATS];
    _Atomic uint64_t reached[SHARE_POOLS]; /* a bit for each seat that has a worker of the pool */
    struct counters_row counters[SHARE_SEATS];
    struct queue_cell queues[SHARE_POOLS][SHARE_SEATS];
    struct worker_row workers[SHARE_WORKERS];
    /* One byte a slot: 0 free, else the seat that holds it plus one. Sparse: only pages that are
     * used take memory. */
    _Alignas(PAGE) _Atomic uint8_t slots[SHARE_WORKERS][SHARE_SLOTS];
    _Alignas(PAGE) struct peer_cell peer_cells[]; /* [SHARE_SEATS][peers] */
};

struct share {
    struct memory *memory;
    size_t size;  /* of the mapping */
    size_t peers; /* cells per seat */
    struct share_table table;
    unsigned peer_prefix; /* bits of an IPv6 address that make the peer */
};

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW, PEER_PREFIX = 64 };

int share_create(size_t peers, int *ret_fd)
{
    CHECK((peers & (peers - 1)) == 0);
    size_t size = sizeof(struct memory) + SHARE_SEATS * peers * sizeof(struct peer_cell);
    const uint64_t head[] = {SHARE_LAYOUT, size};
    int fd = memfd_create("frontd-share", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) < 0 ||
        pwrite(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head)) {
        int r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

void share_table_init(struct share_table *table)
{
    *table = (struct share_table){.key = hash_key_random()};
}

/* What a memory of that size has room for; false where it is none of ours. */
static bool peers_of(off_t size, size_t *ret_peers)
{
    if (size < (off_t)sizeof(struct memory))
        return false;
    size_t rest = (size_t)size - sizeof(struct memory);
    size_t peers = rest / (SHARE_SEATS * sizeof(struct peer_cell));
    *ret_peers = peers;
    return rest % (SHARE_SEATS * sizeof(struct peer_cell)) == 0 && (peers & (peers - 1)) == 0;
}

int share_map(int fd, const struct share_table *table, struct share **ret_share)
{
    struct stat st;
    size_t peers;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return -errno;
    /* Were it made smaller, its pages would be gone, and whoever touches them with them. */
    if ((seals & SEALS) != SEALS)
        return -EINVAL;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!peers_of(st.st_size, &peers))
        return -EINVAL;
    struct share *share = mem_zalloc(sizeof(*share));
    if (share == NULL)
        return -ENOMEM;
    *share = (struct share){
        .size = (size_t)st.st_size, .peers = peers, .table = *table, .peer_prefix = PEER_PREFIX};
    share->memory = mmap(NULL, share->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (share->memory == MAP_FAILED) {
        int r = -errno;
        mem_free(share);
        return r;
    }
    *ret_share = share;
    return 0;
}

void share_unmap(struct share *share)
{
    if (share == NULL)
        return;
    munmap(share->memory, share->size);
    mem_free(share);
}

const struct share_table *share_table(const struct share *share)
{
    return &share->table;
}

struct share_counters *share_counters(struct share *share, unsigned seat)
{
    return &share->memory->counters[seat].counters;
}

void share_beat(struct share *share, unsigned seat)
{
    share_count(&share->memory->counters[seat].counters.beats, 1);
}

uint64_t share_beats(const struct share *share, unsigned seat)
{
    return atomic_load_explicit(
        &share->memory->counters[seat].counters.beats, memory_order_relaxed);
}

uint64_t share_pulse(
    const struct share *share, unsigned seat, struct share_pulse *pulse, uint64_t now)
{
    uint64_t beats = share_beats(share, seat);
    if (beats != pulse->beats)
        *pulse = (struct share_pulse){.beats = beats, .at = now};
    return pulse->at;
}

struct share_sums share_sums(const struct share *share)
{
    struct share_sums sums = {0};
    for (unsigned i = 0; i < SHARE_SEATS; i++) {
        const struct share_counters *of = &share->memory->counters[i].counters;
        sums.accepted += atomic_load_explicit(&of->accepted, memory_order_relaxed);
        sums.closed += atomic_load_explicit(&of->closed, memory_order_relaxed);
        sums.requests += atomic_load_explicit(&of->requests, memory_order_relaxed);
        sums.calls += atomic_load_explicit(&of->calls, memory_order_relaxed);
        sums.dropped += atomic_load_explicit(&of->dropped, memory_order_relaxed);
        sums.moved += atomic_load_explicit(&of->moved, memory_order_relaxed);
        sums.unheard += atomic_load_explicit(&of->unheard, memory_order_relaxed);
    }
    return sums;
}

/* Gives back one of a count. It cannot be 0 unless somebody has written what is not theirs. */
static void take_one(_Atomic uint64_t *count)
{
    if (atomic_fetch_sub(count, 1) == 0)
        atomic_store(count, 0);
}

static void take_one_32(_Atomic uint32_t *count)
{
    if (atomic_fetch_sub(count, 1) == 0)
        atomic_store(count, 0);
}

/* Whoever sums over seats looks at those up to the highest in use. */
/* Looked at first: what is 0 stays a page that is nobody's. */
static void clear_64(_Atomic uint64_t *number)
{
    if (atomic_load_explicit(number, memory_order_relaxed) != 0)
        atomic_store(number, 0);
}

static void clear_32(_Atomic uint32_t *number)
{
    if (atomic_load_explicit(number, memory_order_relaxed) != 0)
        atomic_store(number, 0);
}

static uint32_t seats_in_use(const struct share *share)
{
    uint32_t seats = atomic_load_explicit(&share->memory->seats, memory_order_relaxed);
    return MIN(seats, (uint32_t)SHARE_SEATS);
}

static void note_seat(struct share *share, unsigned seat)
{
    CHECK(seat <= SHARE_SEAT_LAST);
    uint32_t seats = atomic_load(&share->memory->seats);
    while (
        seats < seat + 1 && !atomic_compare_exchange_weak(&share->memory->seats, &seats, seat + 1))
        ;
}

static void finish_closing(struct worker_row *row)
{
    atomic_store(&row->hint, 0);
    atomic_store(&row->hung, 0);
    atomic_store(&row->key, 0);
    atomic_store(&row->refs, 0);
}

/* The seat's bit is set. */
static void drop_ref(struct worker_row *row, unsigned seat)
{
    uint64_t bit = (uint64_t)1 << seat;
    uint64_t refs = atomic_load(&row->refs);
    while (
        !atomic_compare_exchange_weak(&row->refs, &refs, refs == bit ? CLOSING | bit : refs & ~bit))
        ;
    if (refs == bit)
        finish_closing(row);
}

/* A row is given back in a few instructions, or when the supervisor has heard of a death. */
enum { TRIES_BUSY = 100, TRIES_MAX = 200 * 1000, RECLAIM_TRIES = 100 };

/* How often this process uses a row; its bit in refs is set while it does. */
static uint16_t uses[SHARE_SEATS][SHARE_WORKERS];

/* Takes part in the row if it is the worker's, or free. Returns whether it is ours to use now. */
static bool join_row(struct worker_row *row, unsigned seat, uint64_t key)
{
    uint64_t found = 0;
    if (!atomic_compare_exchange_strong(&row->key, &found, key) && found != key)
        return false;
    uint64_t refs = atomic_load(&row->refs);
    do {
        if (refs & CLOSING)
            return false; /* a matter of two instructions, or of its process's death */
    } while (!atomic_compare_exchange_weak(&row->refs, &refs, refs | (uint64_t)1 << seat));
    if (atomic_load(&row->key) == key)
        return true;
    drop_ref(row, seat); /* freed, perhaps taken by another worker, in between */
    return false;
}

/* The first row from `home` on, but for one, that has the key; -1 where there is none. */
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
            /* Two processes may have taken two rows at once. Each looks after it has taken one, so
             * at least one of them sees the other's, and takes its own back. */
            if (find_row(share, home, key, index) >= 0) {
                drop_ref(&share->memory->workers[index], seat);
                continue;
            }
        }
        uses[seat][index]++;
        return index;
    }
    return -ENOSPC; /* a row that stays as it is between two instructions */
}

void share_worker_put(struct share *share, unsigned seat, int worker)
{
    CHECK(uses[seat][worker] > 0);
    if (--uses[seat][worker] > 0)
        return;
    atomic_store(&share->memory->workers[worker].load[seat], 0); /* as it is, if nobody wrote it */
    atomic_store(&share->memory->workers[worker].oldest[seat], 0);
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
    /* The count never exceeds the slots that are taken, so this is exact where it says "full". */
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
    uint8_t ours = (uint8_t)(seat + 1); /* unless somebody has written there */
    atomic_compare_exchange_strong(&share->memory->slots[worker][slot], &ours, 0);
    atomic_store_explicit(&row->hint, (uint32_t)slot, memory_order_relaxed);
}

static void clear_queue(struct queue_cell *cell)
{
    clear_32(&cell->queued);
    clear_64(&cell->oldest);
    clear_32(&cell->largest);
    clear_32(&cell->spare);
    clear_32(&cell->owed);
}

static uint64_t pool_key(const struct share *share, const char *name)
{
    return hash_bytes(&share->table.key, name, strlen(name)) | 1;
}

int share_pool(const struct share *share, const char *name)
{
    uint64_t key = pool_key(share, name);
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
        pools[row] = pool_key(share, names[i]);
        /* Nobody has used it until now; whatever is there is nobody's. */
        for (unsigned seat = 0; seat < SHARE_SEATS; seat++)
            clear_queue(&share->memory->queues[row][seat]);
        clear_64(&share->memory->reached[row]);
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

void share_queue_set_oldest(struct share *share, unsigned seat, unsigned pool, uint64_t since)
{
    /* Sequentially consistent on purpose: who waits says so and then looks for a slot, who frees a
     * slot then looks for who waits; so one of the two sees the other. */
    atomic_store(&share->memory->queues[pool][seat].oldest, since);
}

/* The least time that a seat has which is not in that set, but 0. first: that of the first seat;
 * step: bytes from one seat's to the next one's. */
static bool find_oldest(const struct share *share, uint64_t skip, const _Atomic uint64_t *first,
    size_t step, unsigned *ret_seat, uint64_t *ret_since)
{
    uint32_t seats = seats_in_use(share);
    uint64_t best = UINT64_MAX;
    for (uint32_t i = 0; i < seats; i++) {
        const _Atomic uint64_t *of = (const void *)((const char *)first + i * step);
        uint64_t since = skip >> i & 1 ? 0 : atomic_load(of);
        if (since != 0 && since < best) {
            best = since;
            *ret_seat = i;
        }
    }
    if (best == UINT64_MAX)
        return false;
    *ret_since = best;
    return true;
}

bool share_queue_oldest_but(const struct share *share, uint64_t skip, unsigned pool,
    unsigned *ret_seat, uint64_t *ret_since)
{
    const struct queue_cell *cells = share->memory->queues[pool];
    return find_oldest(share, skip, &cells->oldest, sizeof(*cells), ret_seat, ret_since);
}

void share_worker_set_oldest(struct share *share, unsigned seat, int worker, uint64_t since)
{
    atomic_store(&share->memory->workers[worker].oldest[seat], since);
}

bool share_worker_oldest_but(
    const struct share *share, uint64_t skip, int worker, unsigned *ret_seat, uint64_t *ret_since)
{
    const _Atomic uint64_t *oldest = share->memory->workers[worker].oldest;
    return find_oldest(share, skip, oldest, sizeof(*oldest), ret_seat, ret_since);
}

void share_worker_set_hung(struct share *share, int worker, uint64_t since)
{
    atomic_store(&share->memory->workers[worker].hung, since);
}

uint64_t share_worker_hung(const struct share *share, int worker)
{
    return atomic_load_explicit(&share->memory->workers[worker].hung, memory_order_relaxed);
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

uint64_t share_queue_waiting(const struct share *share, unsigned pool)
{
    uint32_t seats = seats_in_use(share);
    uint64_t waiting = 0;
    for (uint32_t i = 0; i < seats; i++)
        waiting += atomic_load_explicit(
            &share->memory->queues[pool][i].queued, memory_order_relaxed);
    return waiting;
}

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

/* The bits that make the peer, and how many they are: so a key is of one prefix only. */
static uint64_t ipv6_key(const struct share *share, const struct in6_addr *address)
{
    uint8_t bytes[sizeof(*address) + 1] = {0};
    unsigned whole = share->peer_prefix / 8;
    if (IN6_IS_ADDR_V4MAPPED(address))
        return hash_bytes(&share->table.key, &address->s6_addr[12], 4) | 1;
    memcpy(bytes, address, whole);
    if (share->peer_prefix % 8 != 0)
        bytes[whole] = (uint8_t)(address->s6_addr[whole] & 0xff << (8 - share->peer_prefix % 8));
    bytes[sizeof(*address)] = (uint8_t)share->peer_prefix;
    return hash_bytes(&share->table.key, bytes, sizeof(bytes)) | 1;
}

/* 0 where the peer has no address that could be counted. */
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

/* The cell of a key on a seat, or the free one where it would be. Half of the cells are free. */
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
        return true; /* half of them are free, unless somebody has written there: it goes uncounted
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
    /* Close the gap, so that no search ends at it too early (a reader on another seat may miss a
     * cell that is just being moved, and counts a few too few once). */
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

/* Frees the slots that none of these seats holds. */
static void reclaim_slots(_Atomic uint8_t *slots, uint64_t alive)
{
    for (unsigned s = 0; s < SHARE_SLOTS; s++) {
        uint8_t owner = atomic_load_explicit(&slots[s], memory_order_relaxed);
        /* Only who holds it changes it, and they have ended. */
        if (owner != 0 && (owner > SHARE_SEATS || !(alive >> (owner - 1) & 1)))
            atomic_store(&slots[s], 0);
    }
}

/* Sets memory that nobody uses to 0. Whole pages are given back, and what has none gets none. */
static void wipe(void *memory, size_t n)
{
    if (n % PAGE != 0 || madvise(memory, n, MADV_REMOVE) < 0)
        memset(memory, 0, n);
}

static void reclaim_loads(struct worker_row *row, uint64_t alive)
{
    for (unsigned seat = 0; seat < SHARE_SEATS; seat++) {
        if (alive >> seat & 1)
            continue;
        clear_32(&row->load[seat]);
        clear_32(&row->abandoned[seat]);
        clear_64(&row->oldest[seat]);
    }
}

/*
 * refs is what a row is believed by: a seat that has ended is taken out of it when all that it held
 * has been given back, and a row without a living seat is closed. Whoever has it mapped may write
 * to refs in between for ever, so the tries are counted; what is left is done at the next death.
 */
static void reclaim_row(struct share *share, unsigned index, uint64_t alive)
{
    struct worker_row *row = &share->memory->workers[index];
    for (unsigned tries = 0; tries < RECLAIM_TRIES; tries++) {
        uint64_t refs = atomic_load(&row->refs);
        if ((refs & alive) == 0) {
            /* Also where it seems to be free: a process that died after it had set the key has left
             * that, and one that is hostile anything. */
            if (!atomic_compare_exchange_strong(&row->refs, &refs, CLOSING))
                continue;
            wipe(share->memory->slots[index], SHARE_SLOTS);
            reclaim_loads(row, 0);
            finish_closing(row);
            return;
        }
        reclaim_loads(row, alive);
        if ((refs & ~alive & ~CLOSING) == 0)
            return;
        /* One may have died between taking a slot and counting it: look at every slot. */
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
    /* What it had open is closed by its end; all else that it counted stays counted. */
    uint64_t open = atomic_load_explicit(&memory->connections[seat], memory_order_relaxed);
    if (open != 0) {
        share_count(&memory->counters[seat].counters.closed, open);
        atomic_store(&memory->connections[seat], 0);
    }
    wipe(&memory->peer_cells[seat * share->peers], share->peers * sizeof(struct peer_cell));
}

void share_reclaim(struct share *share, uint64_t alive)
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
    }
}
