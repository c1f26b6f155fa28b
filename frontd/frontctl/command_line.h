#pragma once

/* Options of a command: long ones alone, before, between and behind its arguments. */

#include "frontd/frontctl/frontctl.h"

/* An option besides --json and --help, which every command has. */
struct command_option {
    const char *name;   /* without "--" */
    const char **value; /* where its value goes; NULL: it has none */
    bool *given;        /* set to true; NULL: not wanted */
};

/*
 * Reads the options, and moves the arguments to the front: argv[1 … *ret_count]. Returns -1 where
 * the command goes on, or the exit code: --help was printed, or something is wrong and was said.
 */
int command_line_read(struct frontctl *frontctl, const struct command *command, int argc,
    char **argv, const struct command_option *options, size_t n, int *ret_count);

/* The same for a command with `count` arguments and no further options. */
int command_line_arguments(
    struct frontctl *frontctl, const struct command *command, int argc, char **argv, int count);

/* Reads a whole number from min to max. Returns whether it is one. */
bool command_line_number(const char *text, long min, long max, long *ret_number);
