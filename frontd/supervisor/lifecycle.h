#pragma once

/* The supervisor's life, from its start to its end. */

#include "frontd/supervisor/control/control_call.h"

/*
 * Runs until told to stop. argv: of main(). conf_name: path of the config. state_fd: what the
 * program left that executed this one in its place; -1: it was started anew. methods: of the
 * control server, n of them, whose data is the supervisor. Returns the exit status.
 */
int lifecycle_run(char **argv, const char *conf_name, int state_fd,
    const struct control_method *methods, size_t n);
