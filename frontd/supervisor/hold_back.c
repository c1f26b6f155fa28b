#include "frontd/supervisor/hold_back.h"

#include <errno.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/ipc/shm_holds.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/supervisor/generation.h"

static void tell(const struct holds *holds, const struct generation *generation)
{
    struct share *share = generation->share;
    for (uint32_t i = 0; i < generation->conf->npools; i++) {
        const char *name = generation->conf->pools[i].name;
        int row = share_pool(share, name);
        if (row >= 0)
            share_set_paused(share, (unsigned)row, holds_is_paused(holds, name));
    }
    share_set_drained(share, (const char *const *)holds->drained, holds->ndrained);
    share_set_log_level(share, holds->log_level);
    share_holds_changed(share);
}

void hold_back(const struct front *front)
{
    static const uint64_t one = 1;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        if (front->generations[g] != NULL && front->generations[g]->share != NULL)
            tell(&front->holds, front->generations[g]);
    }
    /* A shard that this does not reach looks by itself, when it gives its next sign of life. */
    for (size_t i = 0; i < SHARE_SEATS; i++) {
        bool open = front->wake_fds[i] >= 0;
        if (open && write(front->wake_fds[i], &one, sizeof(one)) < 0 && errno != EAGAIN)
            log_debug("cannot wake the shard of seat %zu: %s", i, log_error_text(-errno));
    }
}
