#pragma once

/* This process becomes another program, or this one again, and stays the parent of its shards. */

#include "frontd/supervisor/supervisor.h"

/*
 * Becomes the binary on disk, which goes on with what reexec_state.c writes. Returns where that is
 * not possible, which is an event of the reload (RELOAD_ON_REFUSED), or not wanted any more.
 */
void execute_upgrade(struct supervisor *supervisor);

/*
 * What the program before has left cannot be read, for want of memory if for anything: nothing of
 * it is kept. The shards notice that their supervisor is gone and report to the one that this
 * process becomes, as where it was killed. Returns only where that is not possible either.
 */
void execute_again(struct supervisor *supervisor);
