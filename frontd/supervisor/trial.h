#pragma once

#include "common/buf.h"
#include "frontd/config/config.h"

/*
 * `frontd --check --bind`: tries what a config needs where and when frontd starts, and leaves
 * nothing behind. No other frontd notices, but for a connection to a UNIX listener that is closed
 * at once.
 */

/*
 * Of a config that has been read: warns on standard error, "warning: FILE:LINE: KEY: what", of
 * folders of workers' sockets that are not there, and of commands that are no programs. text: of
 * the config, for lines.
 */
void trial_warn(const char *conf_name, const struct conf *conf, const struct buf *text);

/*
 * Of a config that has been read: looks at its certificates and keys, and the token of the admin
 * address. warns: of what is odd in them, as trial_warn() does; a file that this user may not read
 * counts as that. Returns 0, or -errno with a message in `error`.
 */
int trial_secrets(
    const char *conf_name, const struct conf *conf, bool warns, char *error, size_t error_size);

/*
 * Prints each finding as "FILE:LINE: KEY: what" to standard error. Returns the exit status: 0 where
 * there is none, else 1.
 */
int trial_run(const char *conf_name);
