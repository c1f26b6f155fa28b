#pragma once

/*
 * The check of `tls` of a listener and of a pool, as far as the config's text says what is wrong.
 * What is in the files is looked at by the supervisor alone (frontd/supervisor/tls/load.h).
 */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads `tls` of a listener whose protocol has been read: listener->tls stays NULL where it is
 * plain. Warns where `meta` asks a plain listener for tls.
 */
void conf_check_tls(struct checker *checker, unsigned index, const struct conf_raw_listener *raw,
    struct conf_listener *listener);

/*
 * Reads `tls` of a pool whose workers have been read. parent: the pool's path, "pools[0]".
 */
void conf_check_pool_tls(struct checker *checker, const char *parent,
    const struct conf_raw_pool *raw, struct conf_pool *pool);
