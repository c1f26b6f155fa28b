#pragma once

/*
 * Finds the shards that a supervisor which was killed has left behind: they serve on, hold the
 * listening sockets, and report at run_dir/shards/report.sock. What each is, and what it is to
 * do, is read from the record that the supervisor has left (record.h); a shard only shows that it
 * is there, and gives back descriptors, which are taken if the record has them.
 */

#include "frontd/supervisor/front.h"

/*
 * Looks at run_dir/shards, and reads the record. Where shards of it are alive, takes their reports:
 * *ret_found says that there were, and *front has their generations, endpoints and identity
 * afterwards. Those that were about to start, or do not report as they should, are killed.
 * *ret_lost: there is no record, so what may be alive cannot be found.
 * Returns 0, or -errno with a message in `error`.
 */
int adopt_shards(struct front *front, const struct conf *conf, bool *ret_found, bool *ret_lost,
    char *error, size_t error_size);
