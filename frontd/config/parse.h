#pragma once

/* From the text of a config to the checked config: lines.h, then schema.h, then check.h. */

#include "frontd/config/config.h"
#include "frontd/config/findings.h"

/*
 * Reads and checks a config.
 *
 * file: its name, for messages. text/n: its content.
 * Returns 0 with *ret_conf (the caller's, conf_free()), or -EINVAL with a message of the form
 * "FILE:LINE: KEY: what is wrong" in `error`.
 */
int conf_parse(const char *file, const char *text, size_t n, struct conf **ret_conf, char *error,
    size_t error_size);

/*
 * As conf_parse(), but what is wrong only where and when frontd starts is passed to
 * findings->found(), and is no error: an address that could not be resolved has the length 0.
 * findings: may be NULL, which makes it conf_parse().
 */
int conf_try(const char *file, const char *text, size_t n, const struct conf_findings *findings,
    struct conf **ret_conf, char *error, size_t error_size);
