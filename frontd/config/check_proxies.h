#pragma once

/*
 * The check of the keys of a listener that say which proxies are in front of it, and how they tell
 * of their clients: `proxy_protocol`, `forwarded`, `trusted_proxies`.
 */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/* Reads the three keys of a listener whose address and protocol have been read. */
void conf_check_proxies(struct checker *checker, unsigned index,
    const struct conf_raw_listener *raw, struct conf_listener *listener);
