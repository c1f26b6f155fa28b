#pragma once

/*
 * The run_dir of a config, read without what the rest of it means: the config may be of a front of
 * another version, and have keys that this program does not know.
 */

#include "common/base.h"

#define RUN_DIR_DEFAULT "/run/frontd"

enum { RUN_DIR_SIZE = 128 };

/*
 * Reads `run_dir` of a config, RUN_DIR_DEFAULT where it has none. Returns 0, or -1 with what is
 * wrong in `error`.
 */
int run_dir_read(
    const char *config, char ret_run_dir[static RUN_DIR_SIZE], char *error, size_t error_size);
