#include "frontd/ipc/shm_holds.h"

#include <string.h>

#include "common/log.h"
#include "frontd/ipc/shm_layout.h"

uint32_t share_holds(const struct share *share)
{
    return atomic_load_explicit(&share->memory->holds.changes, memory_order_acquire);
}

void share_holds_changed(struct share *share)
{
    atomic_fetch_add(&share->memory->holds.changes, 1);
}

void share_set_paused(struct share *share, unsigned pool, bool paused)
{
    atomic_store(&share->memory->holds.paused[pool], paused);
}

bool share_paused(const struct share *share, unsigned pool)
{
    return atomic_load(&share->memory->holds.paused[pool]) == 1;
}

void share_set_drained(struct share *share, const char *const *addresses, size_t n)
{
    CHECK(n <= SHARE_DRAINED_MAX);
    for (size_t i = 0; i < SHARE_DRAINED_MAX; i++)
        atomic_store(&share->memory->holds.drained[i], i < n ? share_key(share, addresses[i]) : 0);
}

bool share_drained(const struct share *share, const char *address)
{
    uint64_t key = share_key(share, address);
    for (size_t i = 0; i < SHARE_DRAINED_MAX; i++) {
        if (atomic_load_explicit(&share->memory->holds.drained[i], memory_order_relaxed) == key)
            return true;
    }
    return false;
}

void share_set_log_level(struct share *share, int level)
{
    atomic_store(&share->memory->holds.log_level, (uint32_t)(level + 1));
}

int share_log_level(const struct share *share)
{
    uint32_t level = atomic_load(&share->memory->holds.log_level);
    return level > LOG_DEBUG + 1 ? -1 : (int)level - 1;
}
