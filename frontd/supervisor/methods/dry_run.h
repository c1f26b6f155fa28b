#pragma once

/*
 * reload with `dry_run`: what a reload would change. A child of this process, which has a copy of
 * its memory, reads the config, compares it with the one that serves, and writes what it has found
 * to a pipe: whatever the config and its files are, this process is not held up by them.
 */

#include "frontd/supervisor/control/control_call.h"

/* Starts one for a call, which it answers later. */
void dry_run_start(struct control_call *call);
