#pragma once

/* The check of what takes the requests of a listener. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Makes the routes of the listener with that index, whose protocol has been read. conf: its pools
 * have been checked.
 */
void conf_check_routes(struct checker *checker, unsigned index, const struct conf_raw_listener *raw,
    const struct conf *conf, struct conf_listener *listener);
