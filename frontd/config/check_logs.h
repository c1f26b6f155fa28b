#pragma once

/* The keys of what is said of single requests: slow_log, request_id, access_log, tracing. */

#include "frontd/config/checker.h"
#include "frontd/config/config.h"
#include "frontd/config/schema.h"

/* Checks those at the top level, before any route is. Errors are the checker's. */
void conf_check_logs(struct checker *checker, const struct conf_raw *raw, struct conf *conf);

/* Reads a slow_log: a duration over 0, or "off". fallback: in us, where text is NULL. */
void conf_check_slow(struct checker *checker, const char *key, const char *text, uint64_t fallback,
    uint64_t *ret_us);
