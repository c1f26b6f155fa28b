#pragma once

/* One worker that frontd runs: a slot of its pool, with a socket, and a process that serves on it.
 */

#include <uv.h>

#include "common/list.h"
#include "frontd/supervisor/workers/fingerprint.h"
#include "frontd/supervisor/workers/output.h"
#include "frontd/supervisor/workers/readiness.h"
#include "frontd/supervisor/workers/worker_dir.h"

struct managed_pool;

enum managed_state {
    MANAGED_WAITING,  /* no process; the timer starts one. Who dials the socket waits */
    MANAGED_STARTING, /* has not answered HELLO yet; the timer is its limit */
    /* The timer is for shards to find it, before an older one may go; then, for its HELLO where it
     * is suspected to hang. */
    MANAGED_SERVING,
    MANAGED_LEAVING, /* has got SIGTERM; its socket is gone; the timer kills it */
};

struct managed_worker {
    struct list node; /* of its pool */
    struct managed_pool *pool;
    struct managed_worker *old; /* leaves when this one serves; NULL: it replaces none */
    struct output *output;
    struct probe *probe;
    uv_timer_t timer;
    struct stamp stamp; /* of what it runs */
    struct managed_name name;
    char path[MANAGED_PATH_MAX]; /* of its socket, once it has one */
    uint64_t dev;                /* what was made there; ino 0: not known */
    uint64_t ino;
    uint64_t birth;    /* of the process, for `pids` */
    uint64_t served;   /* ms of the loop's clock: since when it serves */
    uint64_t due;      /* ms: when the timer is */
    pid_t pid;         /* -1: none */
    int listener;      /* -1: none */
    unsigned failures; /* in a row: ends soon after the start */
    enum managed_state state;
    uint64_t judged; /* ms: when a suspicion was last looked into */
    bool suspected;  /* it is asked whether it lives; the timer kills it */
    bool killed;     /* it was sent SIGKILL, with its group */
    bool settled;    /* serves, and the shards have had time to find it */
};

/*
 * A worker without a process, waiting; managed_worker_start() is next.
 * old: that it is to replace, or NULL. Returns NULL without memory.
 */
struct managed_worker *managed_worker_new(
    struct managed_pool *pool, uint32_t slot, struct managed_worker *old);

/* Starts a process for one that waits. What fails is logged, and it waits again or is given up. */
void managed_worker_start(struct managed_worker *worker);

/* Its process has ended, as waitpid() said. */
void managed_worker_ended(struct managed_worker *worker, int status);

/*
 * Whether the path of its socket is that socket no more, since somebody has removed or replaced it;
 * logged then.
 */
bool managed_worker_lost_socket(const struct managed_worker *worker);

/* Closes the socket of one without a process, and removes its path if that is still the socket. */
void managed_worker_drop_socket(struct managed_worker *worker);

/* Keeps in mind what is at its path, which has just been made. */
void managed_worker_note_socket(struct managed_worker *worker);

/* The one that is about to replace it, or NULL. */
struct managed_worker *managed_worker_successor(const struct managed_worker *worker);

/* Takes its socket away and asks it to finish; without a process it is gone at once. */
void managed_worker_retire(struct managed_worker *worker);

/*
 * Somebody says that it hangs. Unless it is late (it has not answered a call) it is asked for a
 * HELLO; see managed_hung().
 */
void managed_worker_suspect(struct managed_worker *worker, bool late);

/* Kills its process with its group, if it has one: the end is seen like any other. */
void managed_worker_kill(struct managed_worker *worker);

/* Forgets it, whatever its process does. */
void managed_worker_destroy(struct managed_worker *worker);

/* Sets the timer for its state, to `due` of the loop's clock in ms. */
void managed_worker_arm(struct managed_worker *worker, uint64_t due);

/* "worker app/0 (pid 4711)", for the log. */
void managed_worker_describe(const struct managed_worker *worker, char out[OUTPUT_NAME_MAX]);

/* Asks a worker that is starting whether it is ready, from now on. Returns 0 or -errno. */
int managed_worker_probe(struct managed_worker *worker);

/*
 * How long a worker waits for its next start, in ms, after that many failures in a row (at least
 * one): `first`, doubling up to 30 s, or `first` where that is more.
 */
uint64_t managed_worker_delay(uint64_t first, unsigned failures);
