#pragma once

/*
 * What a shard may ask of the kernel: a seccomp filter with a list of system calls, and of their
 * arguments where these matter. Any other call fails with EPERM and is logged once; a call that
 * only an attacker in control of the process would make ends it (SIGSYS).
 */

#include "common/base.h"

/*
 * Has the kernel say that it has no io_uring, for good. A ring carries out what it is asked for
 * past the filter, which therefore refuses to use one; libuv from 1.49 on makes one for each loop,
 * whatever UV_USE_IO_URING says, and aborts where it is refused later, but does without where there
 * is none. Before the first loop. Returns as sandbox_enter(), which then fails as well.
 */
int sandbox_without_rings(void);

/*
 * Puts the filter on this process, for good. Everything that the list does not have must be done by
 * now: users looked up, names resolved, privileges dropped. Returns 0; 1 where the kernel has no
 * seccomp, and nothing has changed; or -errno, and the process must end.
 */
int sandbox_enter(void);

/* Whether calls were refused that are not logged yet; cheap. */
bool sandbox_has_news(void);

/* Logs the calls that were refused, each once in a process's life. */
void sandbox_tell(void);
