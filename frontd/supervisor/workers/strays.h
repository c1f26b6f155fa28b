#pragma once

/*
 * Processes that a worker of ours has started and that have left its process group: daemons. The
 * supervisor is their parent once the process that started them has ended.
 */

#include "common/base.h"

/* From now on such processes become children of this one, and of the program that it executes. */
void strays_collect(void);

/*
 * At the end of the supervisor, when it has no other children any more: ends them, and what they
 * leave. at_once: without asking them first. Blocks, for as long as STRAYS_MS at most, where there
 * are any.
 */
void strays_end(bool at_once);

enum { STRAYS_ASKED_MS = 1000, STRAYS_MS = 3000 };
