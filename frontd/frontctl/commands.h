#pragma once

/* The commands, each in a file cmd_NAME.c; those of one kind share one. */

#include "frontd/frontctl/frontctl.h"

extern const struct command cmd_status;
extern const struct command cmd_conns;
extern const struct command cmd_topics;
extern const struct command cmd_kick;
extern const struct command cmd_pools;
extern const struct command cmd_workers;
extern const struct command cmd_methods;
extern const struct command cmd_pause; /* cmd_hold.c, as the next three */
extern const struct command cmd_resume;
extern const struct command cmd_drain;
extern const struct command cmd_undrain;
extern const struct command cmd_log;
extern const struct command cmd_errors;
extern const struct command cmd_tap;
extern const struct command cmd_reload;
extern const struct command cmd_top;
extern const struct command cmd_upgrade; /* cmd_reload.c */
extern const struct command cmd_explain;
extern const struct command cmd_profile;
