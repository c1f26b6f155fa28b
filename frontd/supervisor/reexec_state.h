#pragma once

/*
 * What the supervisor knows, for the one that comes after it: JSON with a version; members that a
 * reader does not know are skipped. For the program that is executed in its place it is in a memfd,
 * and the descriptors that it names stay open. For one that is started after this one was killed it
 * is the record in run_dir (record.h).
 */

#include "frontd/supervisor/front.h"
#include "frontd/supervisor/reload.h"
#include "frontd/supervisor/workers/workers.h"

/*
 * Writes the state. Returns a descriptor of the caller's (close-on-exec, like all that it names),
 * or -errno.
 */
int reexec_write(
    const struct front *front, const struct reload *reload, const struct workers *workers);

/*
 * Writes the record, before anything is done that it would have to tell: a shard is told what it
 * is, or serves, after that. Where it cannot be written, that is logged. Without run_dir it does
 * nothing.
 */
void reexec_write_record(const struct front *front, const struct reload *reload);

/* Sets close-on-exec on everything that the state names, or clears it. */
void reexec_keep_open(
    const struct front *front, const struct workers *workers, int state_fd, bool open);

/*
 * Reads it: endpoints, generations with their shards, descriptors, workers, and the reload in
 * progress. state_fd: consumed. Returns 0, or -errno with a message in `error`; what was read so
 * far is there, too.
 */
int reexec_read(struct front *front, struct reload *reload, struct workers *workers, int state_fd,
    char *error, size_t error_size);
