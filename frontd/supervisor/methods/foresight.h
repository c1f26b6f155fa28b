#pragma once

/* What a reload would change, for `reload` with `dry_run`. */

#include "frontd/supervisor/supervisor.h"

/*
 * Writes it as a JSON object to a descriptor: {"error": text} where the config would be refused. To
 * be called in a child of the supervisor, which has a copy of its memory; may block. conf_fd: of
 * the config that serves.
 */
void foresight_write(struct supervisor *supervisor, int conf_fd, int fd);
