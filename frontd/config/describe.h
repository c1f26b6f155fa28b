#pragma once

/* What a config says of calls, in words, for people: `--check --explain` and a front that serves.
 */

#include "common/buf.h"
#include "frontd/config/config.h"

/*
 * Appends a line for each thing that applies to calls of a method on a route, with the line of the
 * config that says it: addresses, tokens, timeout, policies, a canary. method: unescaped; of http
 * routes that of HTTP; n == 0: what holds for all is said. Returns 0 or -ENOMEM.
 */
int conf_describe(struct buf *out, const struct conf *conf, const struct conf_listener *listener,
    const struct conf_route *route, struct span method);
