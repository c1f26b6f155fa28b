#pragma once

/*
 * The check of a route's keys that are about content codings: `request_encodings`,
 * `compress`.
 */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Reads the keys of a route whose kind has been read; it is an error where the kind does not have
 * them. parent: the route's path in the config.
 */
void conf_check_coding(struct checker *checker, const char *parent,
    const struct conf_raw_route *raw, struct conf_route *route);
