#pragma once

/* What the supervisor sends to a shard before it serves, and the sockets between shards. */

#include "frontd/supervisor/shard_process.h"

/*
 * Sends a process that was just started all that it needs. Returns 0 or -errno: it is of no use
 * then.
 */
int shard_setup(struct shard_process *process);

/*
 * Sends a shard the keys of session tickets as they are now, where its config has any. 0 or -errno:
 * it has those that it had.
 */
int shard_setup_tickets(struct shard_process *process);

/*
 * Sends it the file of its generation's access log, where there is one and this program has started
 * the shard: one of another version may not know the message. 0 or -errno.
 */
int shard_setup_access(struct shard_process *process);

/* Clients go from an old shard to a new one, over a socket that each has an end of. 0 or -errno. */
int shard_setup_hand_over(struct shard_process *from, struct shard_process *to);
