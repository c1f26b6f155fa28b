#include "frontd/shard/held_back.h"

#include "common/log.h"
#include "frontd/ipc/shm_holds.h"
#include "frontd/shard/upstream/pool.h"

void held_back_look(struct shard *shard)
{
    uint32_t changes = share_holds(shard->share);
    if (changes == shard->holds_seen)
        return;
    shard->holds_seen = changes;
    int level = share_log_level(shard->share);
    log_set_level(level < 0 ? shard->conf->log_level : (enum log_level)level);
    for (size_t i = 0; i < shard->npools; i++)
        pool_hold_back(&shard->pools[i]);
}
