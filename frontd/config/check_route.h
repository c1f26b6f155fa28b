#pragma once

/* The check of a listener's routes. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/*
 * Makes the routes of the listener with that index. Its protocol, and the pools of conf, have been
 * checked before.
 */
void conf_check_routes(struct checker *checker, unsigned index, const struct conf_raw_listener *raw,
    struct conf *conf, struct conf_listener *listener);
