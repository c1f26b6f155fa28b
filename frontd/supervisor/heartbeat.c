#include "frontd/supervisor/heartbeat.h"

uint64_t heartbeat_look(
    struct heartbeat *heartbeat, uint64_t beats, uint64_t elapsed, uint64_t period)
{
    if (heartbeat->beats != beats)
        *heartbeat = (struct heartbeat){.beats = beats};
    else
        heartbeat->still += MIN(elapsed, period);
    return heartbeat->still;
}
