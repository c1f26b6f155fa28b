#include "frontd/ipc/metrics.h"

#include "frontd/ipc/shm_layout.h"

struct share_counters *share_counters(struct share *share, unsigned seat)
{
    return &share->memory->counters[seat].counters;
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
