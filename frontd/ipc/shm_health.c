#include "frontd/ipc/shm_health.h"

#include "frontd/ipc/shm_layout.h"

enum { ONE_LOSS_MS = 1000 /* in which all shards see that a process is lost */ };

static struct health_entry *entry_of(const struct share *share, int entry)
{
    return &share->memory->health[entry];
}

static bool is_near(uint64_t a, uint64_t b, uint64_t ms)
{
    return (a > b ? a - b : b - a) <= ms;
}

/* Where a walk over the entries begins for that key. */
static unsigned home_of(uint64_t key)
{
    return (unsigned)(key >> 1) % SHARE_HEALTHS;
}

static int find(const struct share *share, uint64_t key)
{
    for (unsigned i = 0; i < SHARE_HEALTHS; i++) {
        unsigned at = (home_of(key) + i) % SHARE_HEALTHS;
        uint64_t found = atomic_load_explicit(&share->memory->health[at].key, memory_order_relaxed);
        if (found == key)
            return (int)at;
        if (found == 0)
            return -1;
    }
    return -1;
}

/* Takes an entry that is free, or of no use any more. Two shards that come at once try the same. */
static int take(struct share *share, uint64_t key, uint64_t now)
{
    for (unsigned i = 0; i < SHARE_HEALTHS; i++) {
        unsigned at = (home_of(key) + i) % SHARE_HEALTHS;
        struct health_entry *entry = entry_of(share, (int)at);
        uint64_t found = atomic_load(&entry->key);
        if (found != 0 && is_near(atomic_load(&entry->seen), now, SHARE_HEALTH_KEPT_MS))
            continue;
        if (!atomic_compare_exchange_strong(&entry->key, &found, key)) {
            if (found == key)
                return (int)at;
            continue;
        }
        atomic_store(&entry->seen, now);
        atomic_store(&entry->until, 0);
        atomic_store(&entry->trial, 0);
        atomic_store(&entry->back, 0);
        atomic_store(&entry->lost, 0);
        atomic_store(&entry->lost_at, 0);
        atomic_store(&entry->failed, 0);
        atomic_store(&entry->times, 0);
        return (int)at;
    }
    return -1;
}

int share_health_get(struct share *share, const char *address, uint64_t now)
{
    uint64_t key = share_key(share, address);
    int entry = find(share, key);
    if (entry < 0)
        entry = take(share, key, now);
    if (entry >= 0)
        share_health_touch(share, entry, now);
    return entry;
}

void share_health_touch(struct share *share, int entry, uint64_t now)
{
    atomic_store_explicit(&entry_of(share, entry)->seen, now, memory_order_relaxed);
}

enum share_health share_health_state(const struct share *share, int entry, uint64_t now)
{
    const struct health_entry *it = entry_of(share, entry);
    uint64_t until = atomic_load(&it->until);
    uint64_t trial = atomic_load(&it->trial);
    if (until == 0 || until > now + SHARE_HEALTH_LONGEST_MS)
        return SHARE_HEALTH_WELL;
    bool tried = trial > now && trial <= now + 2 * SHARE_HEALTH_LONGEST_MS;
    return until > now || tried ? SHARE_HEALTH_OUT : SHARE_HEALTH_TRY;
}

bool share_health_suspect(const struct share *share, int entry)
{
    const struct health_entry *it = entry_of(share, entry);
    return atomic_load_explicit(&it->failed, memory_order_relaxed) != 0 ||
           atomic_load_explicit(&it->until, memory_order_relaxed) != 0;
}

uint32_t share_health_fail(struct share *share, int entry)
{
    return atomic_fetch_add(&entry_of(share, entry)->failed, 1) + 1;
}

bool share_health_note_lost(struct share *share, int entry, uint64_t now, int64_t pid)
{
    struct health_entry *it = entry_of(share, entry);
    uint64_t was = atomic_exchange(&it->lost, (uint64_t)pid);
    if (was == (uint64_t)pid && is_near(atomic_load(&it->lost_at), now, ONE_LOSS_MS))
        return false;
    atomic_store(&it->lost_at, now);
    return true;
}

void share_health_set_failed(struct share *share, int entry, uint32_t failed)
{
    atomic_store(&entry_of(share, entry)->failed, failed);
}

static void note_change(struct share *share)
{
    atomic_fetch_add(&share->memory->health_changes, 1);
}

uint64_t share_health_eject(
    struct share *share, int entry, uint64_t now, uint64_t first, bool trial)
{
    struct health_entry *it = entry_of(share, entry);
    uint64_t was = atomic_load(&it->until);
    uint32_t times = atomic_load(&it->times);
    uint64_t ms = first;
    if (!trial && share_health_state(share, entry, now) != SHARE_HEALTH_WELL)
        return 0;
    if (!trial && !is_near(atomic_load(&it->back), now, SHARE_HEALTH_LONGEST_MS))
        times = 0;
    for (uint32_t i = 0; i < times && ms < SHARE_HEALTH_LONGEST_MS; i++)
        ms *= 2;
    ms = MIN(ms, (uint64_t)SHARE_HEALTH_LONGEST_MS);
    if (!atomic_compare_exchange_strong(&it->until, &was, now + ms))
        return 0; /* another shard has */
    atomic_store(&it->times, MIN(times, 30U) + 1);
    atomic_store(&it->failed, 0);
    atomic_store(&it->trial, 0);
    note_change(share);
    return ms;
}

bool share_health_try(struct share *share, int entry, uint64_t now, uint64_t until)
{
    _Atomic uint64_t *trial = &entry_of(share, entry)->trial;
    uint64_t was = atomic_load(trial);
    return share_health_state(share, entry, now) == SHARE_HEALTH_TRY &&
           atomic_compare_exchange_strong(trial, &was, until);
}

void share_health_release(struct share *share, int entry)
{
    atomic_store(&entry_of(share, entry)->trial, 0);
    note_change(share);
}

void share_health_back(struct share *share, int entry, uint64_t now, uint32_t failed)
{
    struct health_entry *it = entry_of(share, entry);
    atomic_store(&it->failed, failed);
    atomic_store(&it->back, now);
    atomic_store(&it->until, 0);
    atomic_store(&it->trial, 0);
    note_change(share);
}

uint32_t share_health_changes(const struct share *share)
{
    return atomic_load_explicit(&share->memory->health_changes, memory_order_relaxed);
}

bool share_health_find(
    const struct share *share, const char *address, uint64_t now, uint64_t *ret_until)
{
    int entry = find(share, share_key(share, address));
    if (entry < 0 || share_health_state(share, entry, now) == SHARE_HEALTH_WELL)
        return false;
    *ret_until = atomic_load(&entry_of(share, entry)->until);
    return true;
}
