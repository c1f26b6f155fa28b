#pragma once

/*
 * The monotonic clock of this process, libuv's included, stands still and is moved by hand: what
 * takes seconds takes none, and nothing expires since the machine is slow.
 */

#include <stdint.h>

/* Stops the clock. */
void fake_clock_stop(void);

/* Moves the stopped clock on. */
void fake_clock_advance(uint64_t ms);
