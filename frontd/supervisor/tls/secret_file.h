#pragma once

/*
 * A file with a certificate or a private key, read into memory that no core dump has, and that is
 * overwritten before it is given back.
 */

#include <sys/stat.h>

#include "common/base.h"

struct secret_file {
    char *text; /* `n` bytes; NULL: nothing has been read */
    size_t n;
    size_t room;    /* bytes taken */
    struct stat st; /* of the file, after symbolic links */
};

/*
 * Reads a plain file of at most `max` bytes. Symbolic links are followed, and nothing is waited
 * for. Returns 0 with *ret_file (secret_file_free()), or -errno: -EISDIR where it is no plain
 * file, -EFBIG where it is larger, -EAGAIN where it grew while it was read.
 */
int secret_file_read(const char *path, size_t max, struct secret_file *ret_file);

/* Overwrites the text and gives it back. Accepts a zeroed one. */
void secret_file_free(struct secret_file *file);

/* What the result of secret_file_read() means, for messages: static, until the next call. */
const char *secret_file_explain(int r);
