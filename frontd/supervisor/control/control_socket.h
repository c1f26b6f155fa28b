#pragma once

/* run_dir/control.sock: where the control server listens. */

#include "common/base.h"

#define CONTROL_SOCKET_NAME "control.sock"

/*
 * Binds and listens: mode 0600, non-blocking, close-on-exec. A socket that stands there is of a
 * supervisor before, since run_dir is locked: it is replaced in one step, so that a client that
 * connects meets one of the two. Any other file is left alone.
 * run_dir: the folder, borrowed. Returns the descriptor, the caller's, or -errno; -EEXIST: another
 * kind of file, or another user's socket, has the name.
 */
int control_socket_listen(int run_dir);

/*
 * Whether a descriptor that the program before has left still serves: it listens, and the name is
 * there. Since run_dir is locked the whole time, the name is that of no other front.
 */
bool control_socket_serves(int run_dir, int fd);

/* Removes the name, if it is a socket of ours. run_dir: -1 has none. */
void control_socket_unlink(int run_dir);
