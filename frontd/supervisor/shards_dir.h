#pragma once

/*
 * The folder run_dir/shards, where shards that have lost their supervisor look for the next one.
 * They run as another user than a supervisor that is root, so they may enter it, and no more.
 */

#include "frontd/config/config.h"
#include "frontd/system/spawn.h"

/*
 * Makes the folder, or looks at its owner. user: of the shards. Its owner is us, its mode 0700,
 * or 0750 with the user's group where they are another user. One of a program before, which made
 * it the user's, is set aside. Returns the descriptor (close-on-exec, the caller's), or -errno with
 * what is wrong in `error`.
 */
int shards_dir_open(int run_dir, const struct spawn_user *user, char *error, size_t error_size);

/*
 * Listens there: non-blocking, close-on-exec, mode 0600 or, where the shards are another user, 0660
 * with that user's group. Returns the descriptor, the caller's, or -errno.
 */
int shards_dir_listen(int shards_dir, const struct spawn_user *user, int backlog);

/* Removes the socket: no process listens there any more. */
void shards_dir_unlink(int shards_dir);
