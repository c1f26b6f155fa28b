#pragma once

/*
 * Finds the shards that a supervisor which was killed has left behind: they serve on, hold the
 * listening sockets, and report at run_dir/shards/report.sock.
 */

#include "frontd/super/super.h"

/*
 * Makes run_dir/shards and holds its lock. Where shards are alive, takes their reports: *ret_found
 * says that there were, and *super has their generations, endpoints and identity afterwards. Those
 * of a generation that was not complete are killed. Returns 0, or -errno with a message in `error`.
 */
int adopt_shards(
    struct super *super, const struct conf *conf, bool *ret_found, char *error, size_t error_size);
