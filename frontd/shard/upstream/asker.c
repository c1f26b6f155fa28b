#include "frontd/shard/upstream/asker.h"

#include <string.h>

#include "frontd/ipc/shm_workers.h"
#include "proto/json_read.h"
#include "proto/json_scan.h"

/* Whether a worker's request ids begin with more than those of another, which may be NULL. */
static bool says_more(const struct worker *worker, const struct worker *other)
{
    return worker->responses != NULL &&
           (other == NULL || strlen(worker->responses) > strlen(other->responses));
}

struct worker *asker_find(const struct pool *pool, struct span id, struct worker *found)
{
    if (!json_is_string(id))
        return found;
    const struct span inside = {id.p + 1, id.n - 2};
    list_for_each (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        if ((worker->ready || worker->out) && says_more(worker, found) &&
            json_scan_starts(inside, (struct span){worker->responses, strlen(worker->responses)}))
            found = worker;
    }
    return found;
}

void asker_submit(struct worker *worker, struct job *job)
{
    struct pool *pool = worker->pool;
    const struct ctx *ctx = pool->ctx;
    int slot;
    CHECK(job->state == JOB_IDLE && job->notify);
    job->pool = pool;
    CHECK(share_slot_take(ctx->share, ctx->seat, worker->share, 0, &slot));
    worker_send(worker, job, slot);
}
