#pragma once

/* The commands, each in a file cmd_NAME.c. */

#include "frontd/frontctl/frontctl.h"

extern const struct command cmd_status;
extern const struct command cmd_conns;
extern const struct command cmd_topics;
extern const struct command cmd_kick;
