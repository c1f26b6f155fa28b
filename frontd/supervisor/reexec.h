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
int reexec_write(const struct supervisor *supervisor);

/*
 * Writes the record, before anything is done that it would have to tell: a shard hears who it is,
 * or serves, after that. Where it cannot be written, that is logged.
 */
void reexec_record(const struct supervisor *supervisor);

/* There is nobody to be found any more. */
void reexec_forget(const struct supervisor *supervisor);

/* Sets close-on-exec on everything that the state names, or clears it. */
void reexec_keep_open(const struct supervisor *supervisor, int state_fd, bool open);

/*
 * Reads it: endpoints, generations with their shards, descriptors. state_fd: consumed. Returns 0,
 * or -errno with a message in `error`; what was read so far is in *supervisor, too.
 */
int reexec_read(struct supervisor *supervisor, int state_fd, char *error, size_t error_size);
