#pragma once

/*
 * What the supervisor knows, in a memfd, for the program that is executed in its place: JSON with a
 * version; members that a reader does not know are skipped. The descriptors that it names stay
 * open.
 */

#include "frontd/super/super.h"

/* Writes the state. Returns a descriptor of the caller's (close-on-exec, like all that it names),
 * or -errno. */
int state_write(const struct super *super);

/* Sets close-on-exec on everything that the state names, or clears it. */
void state_keep_open(const struct super *super, int state_fd, bool open);

/*
 * Reads it: endpoints, generations with their shards, descriptors. state_fd: consumed. Returns 0,
 * or -errno with a message in `error`; what was read so far is in *super, too.
 */
int state_read(struct super *super, int state_fd, char *error, size_t error_size);
