#pragma once

/* The standard descriptors of a process: 0, 1 and 2. */

/*
 * Opens /dev/null for each of them that whoever started this process has left closed: else what is
 * opened next would get its number, and the log be written into it. For the beginning of main().
 * Returns 0 or -errno.
 */
int standard_open(void);
