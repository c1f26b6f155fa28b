#pragma once

/* What a config says of a call, for people: frontd --check --explain. */

#include "frontd/config/config.h"

/*
 * Prints for each listener which route a call of that method takes, and which pool, policy and
 * lists of addresses hold for it, with their lines. method: of JSON-RPC, or of HTTP for routes of
 * kind http. path: of the request; a listener of frame or line has only one route. Returns 0, or 1
 * where nothing takes it.
 */
int explain_print(const struct conf *conf, const char *method, const char *path);
