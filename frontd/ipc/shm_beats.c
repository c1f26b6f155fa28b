#include "frontd/ipc/shm_beats.h"

#include "frontd/ipc/shm_layout.h"

void share_beat(struct share *share, unsigned seat)
{
    share_count(share->memory->metrics[seat].front[0].beats, 1);
}

uint64_t share_beats(const struct share *share, unsigned seat)
{
    return atomic_load_explicit(share->memory->metrics[seat].front[0].beats, memory_order_relaxed);
}

uint64_t share_pulse(
    const struct share *share, unsigned seat, struct share_pulse *pulse, uint64_t now)
{
    uint64_t beats = share_beats(share, seat);
    if (beats != pulse->beats)
        *pulse = (struct share_pulse){.beats = beats, .at = now};
    return pulse->at;
}
