#pragma once

/* The check of a pool whose workers frontd runs itself. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads `command` and the keys that go with it. parent: "pools[N]". conf: its run_dir has been
 * read, and the pools before this one. Where there is a command, pool->workers is the pattern of
 * the sockets that frontd makes; else all of it is as it was.
 */
void conf_check_managed(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, const struct conf *conf, struct conf_pool *pool);
