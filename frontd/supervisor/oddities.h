#pragma once

/*
 * What a config has that is hardly meant, kept until it can be logged: lines that end with a NUL
 * each, in a buffer.
 */

#include "common/buf.h"

/* For struct conf_findings; data: the struct buf. Without memory a line is missing. */
void oddities_keep(void *data, const char *text);

/* Logs them, and empties the buffer. */
void oddities_tell(struct buf *oddities);
