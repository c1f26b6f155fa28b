#pragma once

/* Tells whether a worker runs what a new one would run. */

#include "common/base.h"

/* What a command was made of when it was looked at. Two of them are the same or they are not. */
struct fingerprint {
    uint64_t command; /* its words, and the user that it runs as */
    uint64_t files;   /* device, inode, size, time of the program and of arguments that are files */
};

/*
 * path: of the program; NULL: it was not found. command/n: as in the config. An argument counts as
 * a file where a regular file has that name (or what comes after its '='), seen from the working
 * directory. user: the name, may be NULL.
 */
struct fingerprint fingerprint_take(
    const char *path, char *const *command, size_t n, const char *user);

static inline bool fingerprint_equal(const struct fingerprint *a, const struct fingerprint *b)
{
    return a->command == b->command && a->files == b->files;
}
