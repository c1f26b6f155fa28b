#pragma once

/*
 * The admin process of the config in force: started, started again when it ends, and replaced at
 * each reload. Where it fails, nothing else does.
 */

#include "frontd/supervisor/admin_process.h"

enum { ADMIN_PROCESSES = 4 /* the one that serves, and those that finish */ };

/*
 * The supervisor answers what comes on this socket from now on. fd: consumed, also on failure.
 * Returns 0 or -errno.
 */
typedef int admins_attach(void *data, int fd);

struct admins {
    struct front *front;
    admins_attach *attach;
    void *data;                    /* of attach() */
    struct admin_process *serving; /* one of `all`; NULL: there is none */
    struct admin_process *all[ADMIN_PROCESSES];
    uv_timer_t restart;
    unsigned failures; /* in a row: ends soon after the start */
    bool stopped;
};

/* Nothing runs yet. The loop of front is there. data: for attach(). */
void admins_init(struct admins *admins, struct front *front, admins_attach *attach, void *data);

/*
 * This program was executed in place: its admin process before (front->admin_pid) was told to
 * finish by that, and is seen to its end.
 */
void admins_take_over(struct admins *admins);

/*
 * Another config is in force, or the same again: starts a process for it where it has `admin` or
 * `tracing`, and has the one before finish. Nothing is started while the generation that serves is
 * of a program that shares memory in another way: clients wait in the queues until it is replaced.
 */
void admins_renew(struct admins *admins);

/* A child has ended, as waitpid() said. Returns whether it was one of these. */
bool admins_ended(struct admins *admins, pid_t pid, int status);

/* Looks whether they live: admin_process_check(). */
void admins_check(struct admins *admins, uint64_t elapsed);

/* Has all finish, and starts no more; at_once: kills them. */
void admins_stop(struct admins *admins, bool at_once);

/* Whether there is a process. */
bool admins_alive(const struct admins *admins);

/* For the end of the loop: closes all handles. Processes that are still there are left alone. */
void admins_close(struct admins *admins);
