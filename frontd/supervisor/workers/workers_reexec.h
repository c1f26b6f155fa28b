#pragma once

/* The workers as JSON, for the program that is executed in place of this one. */

#include "frontd/supervisor/workers/workers.h"
#include "proto/json_write.h"

/* The descriptors that have to survive the execve(): `each` is called with every one of them. */
void workers_each_fd(const struct workers *workers, void (*each)(int fd, void *data), void *data);

/* Writes what workers_restore() needs, as a member with that key (NULL: by itself). */
void workers_save(const struct workers *workers, struct json_writer *out, const char *key);

/*
 * After workers_init() in the new program, with what workers_save() has written, or any JSON: takes
 * over the workers as they are; their descriptors are close-on-exec again. workers_apply() comes
 * next. What is not known in the state is passed over, as is a worker that makes no sense. Returns
 * 0, -EINVAL (not a state) or -ENOMEM: not all workers are taken over.
 */
int workers_restore(struct workers *workers, struct span state);
