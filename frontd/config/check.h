#pragma once

/*
 * The check of what the schema cannot express: ranges, names that must exist, keys that are not
 * supported yet.
 */

#include "frontd/config/config.h"
#include "frontd/config/findings.h"
#include "frontd/config/lines.h"
#include "frontd/config/schema.h"

/*
 * Makes the checked config from a config as it was read. *conf: zeroed before; afterwards
 * conf_free() takes it in any state. findings: see findings.h; may be NULL. Returns 0, or -EINVAL
 * with "FILE:LINE: KEY: what is wrong" in `error`.
 */
int conf_check(const char *file, const struct conf_raw *raw, const struct conf_lines *lines,
    const struct conf_findings *findings, struct conf *conf, char *error, size_t error_size);
