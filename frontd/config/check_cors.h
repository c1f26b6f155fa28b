#pragma once

/* The check of who may use a route from a browser: `origins`, `cors`, `cross_site`. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads the three keys of a route whose kind has been read, or complains of those that its kind
 * does not have. parent: the route's path in the config.
 */
void conf_check_cors(struct checker *checker, const char *parent, const struct conf_raw_route *raw,
    struct conf_route *route);
