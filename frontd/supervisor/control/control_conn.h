#pragma once

/*
 * One connection of the control server. Whatever a client does costs at most one request and
 * CONTROL_OUT_MAX of answers: nothing more is read while an answer waits to be written.
 */

#include <uv.h>

#include "common/buf.h"
#include "common/list.h"
#include "frontd/ipc/control_rpc.h"
#include "frontd/supervisor/control/control_call.h"

enum {
    CONTROL_CALLS_MAX = 16,           /* in progress on a connection; then it is not read */
    CONTROL_PUSHES_MAX = 1024 * 1024, /* bytes that wait, beyond which pushes are dropped */
    /* Bytes that wait for the client: one answer of any size beside pushes. */
    CONTROL_OUT_MAX = CONTROL_ANSWER_MAX + 2 * CONTROL_PUSHES_MAX,
    CONTROL_STALL_MS = 10000, /* without a byte of what is due from the client, or taken by it */
};

struct control_conn {
    struct list node; /* of the server's; in none once it closes */
    const struct control_methods *methods;
    uv_poll_t poll;
    uv_timer_t timer; /* runs while the client owes something */
    struct buf in;    /* a frame that is not complete */
    struct buf out;
    struct list calls; /* in progress */
    unsigned ncalls;
    int fd;
    uint8_t handles; /* that the loop has not let go of */
    bool readonly;
    bool greeted; /* its HELLO has come */
    bool ending;  /* it is closed when all has been written */
    bool closing;
};

/*
 * fd: a stream socket, consumed, also on failure. methods: borrowed. Returns 0 with the connection
 * in the list `conns`, or -errno.
 */
int control_conn_new(uv_loop_t *loop, struct list *conns, const struct control_methods *methods,
    int fd, bool readonly);

/* Closes it at once; calls in progress are dropped. */
void control_conn_close(struct control_conn *conn);

/* Tells the client why, and closes it when that has been written. */
void control_conn_refuse(struct control_conn *conn, const char *code, const char *reason);

const struct control_methods *control_conn_methods(const struct control_conn *conn);

/* For control_call.c */

/* Sends a frame. 0, or what control_rpc_put_frame() says, or -ENOBUFS beyond CONTROL_OUT_MAX. */
int control_conn_send(
    struct control_conn *conn, uint8_t type, uint64_t call, const struct span *parts, size_t n);

/* Whether what waits for the client is within CONTROL_PUSHES_MAX. */
bool control_conn_takes_pushes(const struct control_conn *conn);

/* An answer could not be sent: the connection is closed, though not before the loop turns. */
void control_conn_fail(struct control_conn *conn);

/* A call has ended: further requests may be read. */
void control_conn_resume(struct control_conn *conn);
