#pragma once

/*
 * One worker that frontd runs: a slot of its pool, with a socket, and a process that serves on it.
 */

#include <uv.h>

#include "common/list.h"
#include "frontd/supervisor/workers/fingerprint.h"
#include "frontd/supervisor/workers/output.h"
#include "frontd/supervisor/workers/readiness.h"
#include "frontd/supervisor/workers/worker_dir.h"

struct worker_pool;

enum worker_state {
    WORKER_WAITING,  /* no process; the timer starts one. Connections wait in the socket's queue */
    WORKER_STARTING, /* has not answered HELLO yet; the timer is its limit */
    /*
     * The timer is for shards to find it, before an older one may go; then, for its HELLO where it
     * is suspected to hang.
     */
    WORKER_SERVING,
    WORKER_LEAVING, /* has got SIGTERM; its socket is gone; the timer kills it */
};
enum { WORKER_STATES = WORKER_LEAVING + 1 };

struct worker_process {
    struct list node; /* of its pool */
    struct worker_pool *pool;
    struct worker_process *old; /* leaves when this one serves; NULL: it replaces none */
    struct output *output;
    struct readiness *readiness;
    uv_timer_t timer;
    struct fingerprint fingerprint; /* of what it runs */
    struct worker_name name;
    char path[WORKER_PATH_MAX]; /* of its socket, once it has one */
    uint64_t dev;               /* what was made there; ino 0: not known */
    uint64_t ino;
    uint64_t birth;          /* of the process, for `pids` */
    uint64_t served;         /* ms of the loop's clock: since when it serves */
    uint64_t calls;          /* that the process was given; where its pool has max_calls */
    uint64_t counted;        /* as shards had counted them at the last look (recycle.c) */
    uint64_t due;            /* ms: when the timer is */
    pid_t pid;               /* -1: none */
    int listener;            /* -1: none */
    unsigned failures;       /* in a row: ends soon after the start */
    enum worker_state state; /* changes by worker_process_move() alone */
    uint64_t judged;         /* ms: when a suspicion was last looked into */
    bool suspected;          /* it is asked whether it lives; the timer kills it */
    bool killed;             /* it was sent SIGKILL, with its group */
    bool settled;            /* serves, and the shards have had time to find it */
    bool recycles;           /* `old` is recycled, so that a failure is no matter of a reload */
};

/*
 * A worker without a process. state: that it begins with: WAITING, where worker_process_start() is
 * next, or what it was under the program before. old: that it is to replace, or NULL. Returns NULL
 * without memory.
 */
struct worker_process *worker_process_new(
    struct worker_pool *pool, uint32_t slot, enum worker_state state, struct worker_process *old);

/* Changes its state. A move that its table does not have is a bug. */
void worker_process_move(struct worker_process *worker, enum worker_state state);

/* "serving", for what is saved. */
const char *worker_process_state_name(enum worker_state state);

/* Starts a process for one that waits. What fails is logged, and it waits again or is given up. */
void worker_process_start(struct worker_process *worker);

/* Its process has ended. status: as waitpid() said; -1: it is not known. */
void worker_process_ended(struct worker_process *worker, int status);

/*
 * Whether its socket is at its path no more, since it was removed or replaced there; logged then.
 */
bool worker_process_lost_socket(const struct worker_process *worker);

/* Closes the socket of one without a process, and removes its path if that is still the socket. */
void worker_process_drop_socket(struct worker_process *worker);

/* Notes which file is at its path, which has just been made. */
void worker_process_note_socket(struct worker_process *worker);

/* The one that is about to replace it, or NULL. */
struct worker_process *worker_process_successor(const struct worker_process *worker);

/* Takes its socket away and asks it to finish; without a process it is gone at once. */
void worker_process_retire(struct worker_process *worker);

/*
 * A shard says that it hangs. Unless it is late (it has not answered a call) it is asked for a
 * HELLO; see workers_hung() in workers.h.
 */
void worker_process_suspect(struct worker_process *worker, bool late);

/* Kills its process with its group, if it has one: the end is seen like any other. */
void worker_process_kill(struct worker_process *worker);

/* Forgets it, whatever its process does. */
void worker_process_destroy(struct worker_process *worker);

/* Sets the timer for its state, to `due` of the loop's clock in ms. */
void worker_process_arm(struct worker_process *worker, uint64_t due);

/* "worker app/0 (pid 4711)", for the log. */
void worker_process_describe(const struct worker_process *worker, char out[OUTPUT_NAME_MAX]);

/* Asks a worker that is starting whether it is ready, from now on. Returns 0 or -errno. */
int worker_process_ask_ready(struct worker_process *worker);

/*
 * How long a worker waits for its next start, in ms, after that many failures in a row (at least
 * one): `first`, doubling up to 30 s, or `first` where that is more.
 */
uint64_t worker_process_delay(uint64_t first, unsigned failures);
