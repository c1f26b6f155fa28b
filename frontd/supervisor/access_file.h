#pragma once

/* The file of the access log: shards have no right to open it, so the supervisor does. */

#include "frontd/config/config.h"

/*
 * Opens it, or makes it with mode 0640. It is in a folder that no other user can write to, and is a
 * regular file or a FIFO of ours (system/folder.h). Returns a close-on-exec, non-blocking
 * descriptor of the caller's; -ENOENT where the config has no such file; or another -errno, with a
 * message in `error`. conf_name: of the config, for that.
 */
int access_file_open(
    const char *conf_name, const struct conf *conf, char *error, size_t error_size);

/* Whether it could be opened, without making it. Returns 0 or -errno, as above. */
int access_file_try(const char *conf_name, const struct conf *conf, char *error, size_t error_size);
