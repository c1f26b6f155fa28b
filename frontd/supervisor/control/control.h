#pragma once

/*
 * The control server: docs/control.md. It listens at run_dir/control.sock for frontctl, and serves
 * descriptors that it is given; it knows no methods, which come in a table.
 */

#include <uv.h>

#include "frontd/supervisor/control/control_call.h"

enum { CONTROL_CONNECTIONS_MAX = 32 /* beside those of control_serve() */ };

struct control {
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t again; /* accepts again: there were no descriptors or no memory */
    struct control_methods methods;
    struct list conns; /* that were accepted */
    struct list given; /* those of control_serve() */
    int fd;            /* the socket that listens; -1: none */
    int run_dir_fd;
    bool watching; /* the handles are open */
};

/* Without a socket. methods: borrowed, as is what they are given (data). control: zeroed. */
void control_init(struct control *control, uv_loop_t *loop, const struct control_method *methods,
    size_t n, void *data);

/*
 * Listens in run_dir, borrowed. fd: the socket of a program before, consumed; -1: none. Returns 0,
 * or -errno; then no client is served, but for those of control_serve().
 */
int control_open(struct control *control, int run_dir_fd, int fd);

/*
 * Serves a process of the supervisor's own on one end of a stream socket pair. fd: consumed, also
 * on failure. readonly: it may only call those methods. Returns 0 or -errno.
 */
int control_serve(struct control *control, int fd, bool readonly);

/*
 * Closes all; handles are closed when the loop has turned. The name is removed. Accepts one that
 * was never opened, or never initialized (zeroed).
 */
void control_close(struct control *control);
