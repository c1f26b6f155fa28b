#pragma once

/* The supervisor's life, from its start to its end. */

/*
 * Runs until told to stop. argv: of main(). conf_name: path of the config. state_fd: what the
 * program left that executed this one in its place; -1: it was started anew. Returns the exit
 * status.
 */
int lifecycle_run(char **argv, const char *conf_name, int state_fd);
