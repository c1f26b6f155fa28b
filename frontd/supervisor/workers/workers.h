#pragma once

/*
 * Workers that frontd runs itself (`command` of a pool): starts them, starts them again when they
 * end, replaces them when what they run has changed, logs what they write, and takes them along
 * when the supervisor executes a new program in place.
 *
 * Everything happens on the supervisor's loop; nothing blocks.
 */

#include "common/log.h"
#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"
#include "frontd/supervisor/workers/workers_ctx.h"

struct workers {
    struct workers_ctx ctx;
    struct log_limit odd;     /* of lines about workers that shards name and that do not exist */
    void (*gone)(void *data); /* no worker is left after workers_stop(); NULL: it was called */
    void *gone_data;
    bool found; /* what an earlier supervisor has left is known */
};

/*
 * Nothing runs yet. loop: borrowed until workers_close() and the loop's end. run_dir: copied; too
 * long a one has no managed pools, which the config's check has seen to.
 */
void workers_init(struct workers *workers, uv_loop_t *loop, const char *run_dir);

/*
 * Whether a config's workers can be run: makes run_dir/workers and looks for the user. Returns 0,
 * or -errno with a message in `error`.
 */
int workers_prepare(
    const struct workers *workers, const struct conf *conf, char *error, size_t error_size);

/*
 * Takes over a prepared config that is in force, at the start and after each reload: pools that are
 * new get their workers, surplus workers are retired. Those of pools that are gone stay for now.
 *
 * conf: borrowed until the next workers_apply(), workers_stop() or workers_close(). replace: also
 * replaces, one at a time in each pool, the workers of which the command, the user or files have
 * changed.
 */
void workers_apply(struct workers *workers, const struct conf *conf, bool replace);

/*
 * Before new shards look for workers: where a socket of ours was removed or replaced, no shard can
 * dial it any more. Its worker gets a successor with a socket of its own, and is retired when that
 * one serves. After workers_prepare().
 */
void workers_mend(struct workers *workers);

/* No shard calls the pools that are gone any more: retires their workers. */
void workers_prune(struct workers *workers);

/*
 * A child has ended, as waitpid() said. Returns whether it was one of these. What it leaves behind
 * of its process group is ended too.
 */
bool workers_process_ended(struct workers *workers, pid_t pid, int status);

/*
 * After workers_restore() and workers_apply(): goes on without the processes that have ended, and
 * that a script which was executed before this program has waited for. waitpid() does not tell of
 * them.
 */
void workers_find_lost(struct workers *workers);

/*
 * A shard says that a worker hangs. file: the name of its socket, whatever the shard has sent. A
 * shard is not believed: a name that is none of a worker that serves is logged at most, and the
 * worker is killed only where it does not answer a HELLO of ours for `worker_timeout`; or where
 * late is true (a call was not answered), if it has served for `kill_after`. So that is how often a
 * shard can have it killed for nothing.
 */
void workers_hung(struct workers *workers, const char *file, bool late);

/*
 * Recycles workers that have reached a limit of their pool (recycle.h). To be called now and then.
 * share: of the shards that serve; NULL: there is none.
 */
void workers_look(struct workers *workers, struct share *share);

/*
 * Asks all to finish; what has not by the drain limit is killed. gone: called once when none is
 * left, perhaps before this returns.
 */
void workers_stop(struct workers *workers, void (*gone)(void *data), void *data);

/* Kills all workers, for a stop at once; workers_stop() comes first. */
void workers_kill(struct workers *workers);

/* How many processes, and groups without their leader, there are, those that leave included. */
size_t workers_count(const struct workers *workers);

/*
 * For the end of the loop: closes all handles and forgets all. Processes that are still there are
 * left alone.
 */
void workers_close(struct workers *workers);
