#pragma once

/*
 * The workers of all pools that serve, as the supervisor can know them: by the config, by the
 * sockets that are there, by its own, and by what shards have written into the shared memory.
 */

#include "frontd/ipc/shm_workers.h"
#include "frontd/supervisor/supervisor.h"

enum { WORKER_LIST_MAX = 2 * SHARE_WORKERS /* entries of all pools */ };

struct worker_entry {
    const struct conf_pool *pool;
    const char *address;                  /* as the log has it */
    const struct worker_process *managed; /* NULL: it is not ours */
    bool known;                           /* a shard has a channel to it: view says more */
    bool drained;
    uint64_t ejected_until; /* ms: until when it is left out (shm_health.h); 0: it is not */
    struct share_worker_view view;
};

/*
 * Calls `fn` for each process at each address; once for an address without any that a shard knows.
 * What the entry points to is borrowed. Returns 0 or -ENOMEM.
 */
int worker_list(const struct supervisor *supervisor,
    void (*fn)(const struct worker_entry *entry, void *data), void *data);

/* Its process id; 0: it is not known. */
int64_t worker_list_pid(const struct worker_entry *entry);

/* "ready", "drained", "ejected", "hung", "down", or, of ours, "waiting", "starting", "leaving". */
const char *worker_list_state(const struct worker_entry *entry);
