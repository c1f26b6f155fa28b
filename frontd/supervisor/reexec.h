#pragma once

/*
 * What the supervisor knows, for who comes after it: JSON with a version; members that a reader
 * does not know are skipped. For the program that is executed in its place it is in a memfd, and
 * the descriptors that it names stay open. For one that is started after this one was killed it is
 * the record in run_dir (record.h).
 */

#include "frontd/supervisor/supervisor.h"

/* A program reads its own version only, and says so before it is executed (identity.h). Members may
 * be added without a new one. */
enum { STATE_VERSION = 1 };

/* Writes the state. Returns a descriptor of the caller's (close-on-exec, like all that it names),
 * or -errno. */
int state_write(const struct super *super);

/*
 * Writes the record, before anything is done that it would have to tell: a shard hears who it is,
 * or serves, after that. Where it cannot be written, that is logged.
 */
void state_record(const struct super *super);

/* There is nobody to be found any more. */
void state_forget(const struct super *super);

/* Sets close-on-exec on everything that the state names, or clears it. */
void state_keep_open(const struct super *super, int state_fd, bool open);

/*
 * Reads it: endpoints, generations with their shards, descriptors. state_fd: consumed. Returns 0,
 * or -errno with a message in `error`; what was read so far is in *super, too.
 */
int state_read(struct super *super, int state_fd, char *error, size_t error_size);
