#pragma once

/*
 * `frontd --check --bind`: tries what a config needs where and when frontd starts, and leaves
 * nothing behind. No other frontd notices, but for a connection to a UNIX listener that is closed
 * at once.
 */

/* Prints each finding as "FILE:LINE: KEY: what" to standard error. Returns the exit status: 0 where
 * there is none, else 1. */
int trial_run(const char *conf_name);
