#pragma once

/*
 * Makes generations of the shards that a supervisor which was killed has left, and that have
 * reported.
 */

#include "frontd/supervisor/front.h"
#include "frontd/supervisor/reports.h"

/*
 * Takes over what has been reported: the front has the generations, sockets and the identity of the
 * record afterwards. reports: at least one shard has reported; what is taken is theirs no more.
 * Returns 0 or -errno; what was taken so far is the front's, too.
 */
int adopt_generations(struct front *front, struct reports *reports);
