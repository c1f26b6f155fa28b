#pragma once

/*
 * The paths that the user has started this program with, as they were given: they mean what is
 * there when they are used, through whatever link leads there then. Relative ones are taken from
 * the working directory's name (common/cwd.h), not from the folder that it was at the start.
 */

#include <limits.h>

#include "common/base.h"
#include "proto/json_write.h"

/* The running program, also where its file has been removed or replaced. */
#define PATHS_SELF "/proc/self/exe"

struct paths {
    char exe[PATH_MAX];  /* of this program: where SIGUSR2 looks for a new one */
    char conf[PATH_MAX]; /* of the config */
    char cwd[PATH_MAX];  /* of the working directory; "": it has none any more */
};

/*
 * Finds them. argv0: with a '/' it is the program's path, which may be that of a script that stands
 * for it; else it is looked up in $PATH, and is what is found if that is the program which runs. If
 * neither is there, the path that the kernel has executed. conf: as given.
 */
void paths_find(struct paths *paths, const char *argv0, const char *conf);

/*
 * Goes to the working directory, which is another one if a link was switched. Returns 0 or -errno.
 */
int paths_enter(const struct paths *paths);

/* What is wrong where paths_try_self() fails; a format with a text for the error. */
#define PATHS_SELF_WANTED                                                                          \
    PATHS_SELF                                                                                     \
    ": %s. Shards are started from there: /proc has to be mounted, for this PID namespace"

/* Whether this program can be executed again, as shards are. Returns 0 or -errno. */
int paths_try_self(void);

/* Writes members of the supervisor's state, for the program that follows. */
void paths_save(const struct paths *paths, struct json_writer *out);

/* Reads them. What is not there, as from a program before, or is no path, stays as it was found. */
void paths_restore(struct paths *paths, struct span state);
