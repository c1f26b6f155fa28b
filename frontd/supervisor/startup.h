#pragma once

/* What the supervisor needs once, before anything runs. */

#include "frontd/supervisor/front.h"

/* In run_dir: holds the number of the process, and is locked while it runs. */
#define STARTUP_PID_FILE "frontd.pid"

/*
 * Raises the descriptor limit to the hard one. Returns how many connections it allows a shard;
 * fewer than the config asks for is logged.
 */
uint64_t startup_raise_fd_limit(const struct conf *conf);

/* Logs what is to be said of the user that shards and workers run as: nothing where all is well. */
void startup_warn_of_root(const struct conf *conf);

/*
 * Makes run_dir, or looks at its owner, and holds its PID file: one front for each run_dir.
 * Returns 0, or -1 and has logged why.
 */
int startup_lock_run_dir(struct front *front, const struct conf *conf);

/* Lets go of run_dir and the PID file, which is empty then. Nothing where it is not held. */
void startup_unlock_run_dir(struct front *front);

/*
 * Makes the identity of this front: its instance, the key of its connection ids, the first number
 * of a shard process.
 */
void startup_identity(struct front *front);

/* Makes a key of connection ids, which cannot be guessed. */
void startup_conn_key(struct front *front);
