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
#define METRIC_ADD(name, kind, help)                                                               \
    sums.name += atomic_load_explicit(&of->name, memory_order_relaxed);
        METRICS(METRIC_ADD)
#undef METRIC_ADD
    }
    return sums;
}
