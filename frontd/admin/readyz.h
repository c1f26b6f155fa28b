#pragma once

/* Whether clients may be sent to this front: /readyz. Pure. */

#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"
#include "proto/json_write.h"

/*
 * Writes {"missing":[…],"ready":…}, what is missing as texts for people: it stops; a shard of the
 * generation that serves does not; a pool has no worker; nothing is known. status: the supervisor's
 * answer to `status`; n == 0: it has not answered, and `why` says so. Returns whether it is ready.
 */
bool readyz_write(const struct conf *conf, const struct share *share, struct span status,
    const char *why, struct json_writer *out);
