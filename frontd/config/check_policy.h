#pragma once

/* What a route says of methods: which may be called, how often, how many at once, for how long. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Checks the keys idempotent, calls, rate, methods, allow_methods and deny_methods of a route, and
 * makes its policies of them. parent: the path of the route in the config.
 */
void conf_check_policies(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route);

/* Once all is checked: gives each policy its number and id. */
void conf_number_policies(struct conf *conf);
