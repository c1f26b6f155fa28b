#pragma once

/*
 * Reads the certificates and keys of a config's listeners and pools, and the keys of `auth.jwt`,
 * looks whether they are right, and makes of them what shards get (ipc/tls_material.h).
 */

#include <time.h>

#include "frontd/config/config.h"
#include "frontd/config/findings.h"

/* Of what was loaded, for the log. */
struct tls_load_sum {
    unsigned certificates;
    time_t until;      /* when the first of them expires */
    const char *first; /* the file of that one; the config's */
};

/*
 * Reads and checks all files that `tls` names. conf_name: of the config, for messages of the form
 * "FILE:LINE: KEY: what is wrong". findings: `odd` is told what is allowed but hardly meant; NULL:
 * nothing is. now: for dates.
 *
 * ret_fd: a sealed memfd, close-on-exec, the caller's; -1 where nothing has tls. NULL: files
 * are only looked at, and one that may not be read is told to `odd` and is no error: the user who
 * asks may not be the one who runs frontd. ret_sum: may be NULL.
 *
 * Where a listener or a pool has tls, this process leaves no core dump from then on
 * (privileges_hide()).
 *
 * Returns 0, or -errno with a message in `error`: -EINVAL where a file is not right.
 */
int tls_load(const char *conf_name, const struct conf *conf, time_t now,
    const struct conf_findings *findings, int *ret_fd, struct tls_load_sum *ret_sum, char *error,
    size_t error_size);

/* Whether a listener or a pool of it has tls, or tokens are asked for. */
bool tls_load_is_needed(const struct conf *conf);
