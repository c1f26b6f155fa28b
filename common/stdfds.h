#pragma once

/* The standard descriptors of a process: 0, 1 and 2. */

/*
 * Opens /dev/null for each of them that is closed when the process starts. Else the next
 * descriptor that is opened would get its number, and the log would be written into that. For the
 * beginning of main(). Returns 0 or -errno.
 */
int standard_open(void);
