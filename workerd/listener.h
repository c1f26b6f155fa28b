#pragma once

/* Accepting channels on the worker's socket. */

struct workerd;

/* Prepares to accept; the socket is there. Returns 0 or -errno. */
int listener_open(struct workerd *worker);

/* Begins to accept. Returns 0 or -errno. */
int listener_start(struct workerd *worker);

/*
 * Accepts no more, and closes the socket when libuv is done with it; worker_maybe_finish() follows.
 */
void listener_close(struct workerd *worker);
