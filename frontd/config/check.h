#pragma once

/* What the schema cannot say: ranges, names that must exist, keys that do not work yet. */

#include "frontd/config/config.h"
#include "frontd/config/findings.h"
#include "frontd/config/lines.h"
#include "frontd/config/schema.h"

/*
 * Turns a config as read into the checked one. *conf is zeroed before; conf_free() takes it in any
 * state afterwards. findings: see findings.h; may be NULL. Returns 0, or -EINVAL with "FILE:LINE:
 * KEY: what is wrong" in `error`.
 */
int conf_check(const char *file, const struct conf_raw *raw, const struct conf_lines *lines,
    const struct conf_findings *findings, struct conf *conf, char *error, size_t error_size);
