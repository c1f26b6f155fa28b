#pragma once

/* The check of a pool with a `command`: frontd runs its workers itself. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads `command` and the keys that go with it. parent: "pools[N]". conf: its run_dir, and the
 * pools before this one, have been read. Where there is a command, pool->workers becomes the
 * pattern of the sockets that frontd makes; else the pool stays as it was.
 */
void conf_check_managed(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, const struct conf *conf, struct conf_pool *pool);
