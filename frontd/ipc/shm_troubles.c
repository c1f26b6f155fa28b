#include "frontd/ipc/shm_troubles.h"

#include "frontd/ipc/shm_layout.h"

struct trouble_cell *share_worker_trouble(
    struct share *share, int worker, enum share_worker_trouble trouble)
{
    return &share->memory->workers[worker].troubles[trouble];
}

struct trouble_cell *share_pool_trouble(struct share *share, unsigned pool)
{
    return &share->memory->crowded[pool];
}

bool share_trouble_see(struct trouble_cell *cell, unsigned seat, uint64_t now)
{
    uint64_t none = 0;
    atomic_fetch_or(&cell->seats, share_seat_bit(seat));
    return atomic_compare_exchange_strong(&cell->since, &none, MAX(now, 1U));
}

uint64_t share_trouble_over(struct trouble_cell *cell, unsigned seat)
{
    uint64_t bit = share_seat_bit(seat);
    if ((atomic_fetch_and(&cell->seats, ~bit) & ~bit) != 0)
        return 0;
    return atomic_exchange(&cell->since, 0);
}

void share_trouble_leave(struct trouble_cell *cell, unsigned seat)
{
    atomic_fetch_and(&cell->seats, ~share_seat_bit(seat));
}

bool share_trouble_left(const struct trouble_cell *cell)
{
    return atomic_load_explicit(&cell->since, memory_order_relaxed) != 0 &&
           atomic_load_explicit(&cell->seats, memory_order_relaxed) == 0;
}
