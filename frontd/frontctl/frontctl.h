#pragma once

/*
 * frontctl: asks the supervisor at run_dir/control.sock (docs/control.md). A command is a file
 * cmd_NAME.c with a `struct command` that stands in commands.c.
 */

#include "common/base.h"

/* Exit codes (docs/control.md). */
enum {
    FRONTCTL_DONE = 0,
    FRONTCTL_FAILED = 1, /* the operation was tried, and has failed; or the answer makes no sense */
    FRONTCTL_USAGE = 2,  /* the command line is wrong */
    FRONTCTL_UNREACHED = 3, /* the supervisor cannot be reached, or does not answer */
    FRONTCTL_REFUSED = 4,   /* no permission; or there is no such thing, or not now */
};

/* What stands before the command on the command line. */
struct frontctl {
    const char *socket; /* path of the control socket */
    bool json;          /* the answer as it came */
};

struct command {
    const char *name;
    const char *arguments; /* for the usage line, as "WORKER [--json]" */
    const char *summary;   /* one line */
    const char *help;      /* further lines, each ending in a line break; "" */
    /* argv[0]: the command's name. Returns an exit code. */
    int (*run)(struct frontctl *frontctl, int argc, char **argv);
};

/* All commands, in the order of `frontctl --help`; ends with NULL. */
extern const struct command *const commands_all[];

/* Prints what is wrong with the command line, and how it is meant. Returns FRONTCTL_USAGE. */
int frontctl_misused(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints the help of a command to standard output. */
void frontctl_help(const struct command *command);

/* Prints an error to standard error, as "frontctl: …". */
void frontctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
