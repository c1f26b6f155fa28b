#pragma once

/* An admin process as its supervisor sees it. Nothing that it says is believed but that it lives.
 */

#include <sys/types.h>
#include <uv.h>

#include "frontd/supervisor/front.h"
#include "frontd/supervisor/heartbeat.h"

/* Made by admin_process_start(), freed by admin_process_forget(). */
struct admin_process {
    struct front *front;
    uv_poll_t control;
    int sock;         /* the control socket; -1: closed, so that it finishes and ends */
    pid_t pid;        /* -1: it has ended */
    uint64_t started; /* ms */
    uint64_t end_at;  /* ms: when it is killed, since it has been told to finish; 0: it was not */
    uint64_t timeout; /* ms of silence, after which it has hung */
    uint64_t beats;   /* that it has said */
    struct heartbeat heartbeat;
    bool control_open; /* libuv has the handle */
    bool forgotten;    /* freed when libuv lets go of the handle */
    bool hung;         /* it was killed since it had hung */
};

/*
 * Executes this program as an admin process for the generation that serves, and sends it what it
 * needs. token_fd: the token, borrowed; -1: none is asked for. ask_fd: the end of the socket to the
 * supervisor that is its, borrowed. Returns 0 with *ret_process, or -errno.
 */
int admin_process_start(
    struct front *front, int token_fd, int ask_fd, struct admin_process **ret_process);

/*
 * One that a program before has started, and that finishes by now. pid: a child of this process.
 * Returns 0 with *ret_process, or -ENOMEM.
 */
int admin_process_found(struct front *front, pid_t pid, struct admin_process **ret_process);

/* Has it finish what it answers, and end; or kills it. Its end is seen by waitpid(). */
void admin_process_finish(struct admin_process *process);
void admin_process_kill(struct admin_process *process);

/*
 * Kills it where it has not said for `shard_timeout` that it lives, or has not finished in time.
 * elapsed: ms since the look before.
 */
void admin_process_check(struct admin_process *process, uint64_t elapsed);

/* Lets go of it. A process that there is goes on. Accepts NULL. */
void admin_process_forget(struct admin_process *process);
