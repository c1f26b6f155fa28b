#pragma once

/* What an operator holds back, or sets for the log, takes effect on this shard (ipc/shm_holds.h).
 */

#include "frontd/shard/shard_internal.h"

/* Looks whether anything has changed; to be called when this shard is woken, and now and then. */
void held_back_look(struct shard *shard);
