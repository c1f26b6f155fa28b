#pragma once

/*
 * What all generations of shards have in common: the loop, the sockets and other descriptors that
 * outlive them, and the identity of this front. It is an argument of whatever starts, finds or ends
 * shards; what is to be known above is told through its generation_ops (generation.h).
 */

#include <uv.h>

#include "common/buf.h"
#include "common/ids.h"
#include "frontd/ipc/shm.h"
#include "frontd/supervisor/holds.h"
#include "frontd/supervisor/paths.h"
#include "frontd/supervisor/reload_report.h"
#include "frontd/supervisor/sockets/endpoints.h"
#include "frontd/supervisor/tls/ticket_ring.h"

enum { FRONT_GENERATIONS = 2 };

/* The ends of the socket on which spans of traces go from shards to the process that exports them.
 */
enum { FRONT_TRACE_SHARDS, FRONT_TRACE_ADMIN, FRONT_TRACE_FDS };

struct generation;
struct generation_ops;

struct front {
    const struct generation_ops *ops; /* borrowed */
    uv_loop_t loop;
    struct endpoints endpoints;
    /* Those that live: [0] serves (or is the first, starting), [1] is about to, or leaves. */
    struct generation *generations[FRONT_GENERATIONS];
    int trace_fds[FRONT_TRACE_FDS]; /* -1: they are not made yet */
    int wake_fds[SHARE_SEATS]; /* eventfds, which tell a seat's shard of a free slot; -1: none */
    int run_dir_fd;     /* run_dir; its owner was looked at when it was opened; -1: not open */
    int lock_fd;        /* run_dir/frontd.pid: one front for each run_dir; -1: none yet */
    int control_fd;     /* the socket of the control server, on its way through execve(); else -1 */
    int alive_fd;       /* for a program before, which wants one in the state; else -1 */
    struct paths paths; /* of the binary on disk, and of the config */
    const char *conf_name; /* as it was given, until it has been read; then as in paths */
    uint64_t started;      /* ms since 1970: when this front was started, by whatever program */
    uint64_t incarnations; /* shard processes started so far */
    uint64_t last_generation;
    uint64_t connections_each; /* that the descriptor limit allows a shard */
    /* ms: until then the books of shards that have ended are looked at again (metric_book.h) */
    uint64_t book_until;
    /* JSON: what was counted in the memory of a program before, for the memory to be made
     * (metric_carry.h); empty: there is none */
    struct buf counts;
    char instance[33];
    uint8_t conn_key[IDS_KEY_SIZE]; /* of connection ids, for all shards of the instance; secret */
    struct reload_report report;    /* of the last reload, or the one in progress */
    struct holds holds;             /* what an operator holds back */
    struct ticket_ring tickets;     /* keys of session tickets, for all shards */
    int tickets_fd;  /* the same, for the program that is about to be executed; else -1 */
    pid_t admin_pid; /* the admin process, which that program sees to its end; 0: none */
};

/* Without generations and descriptors. front: zeroed; the loop is initialized elsewhere. */
void front_init(struct front *front, const struct generation_ops *ops);

/* The generation that serves, or is the first; NULL: there is none. */
static inline struct generation *front_serving(const struct front *front)
{
    return front->generations[0];
}

/* Makes the eventfd of a seat, where there is none yet. 0 or -errno. */
int front_make_wake(struct front *front, uint32_t seat);

/*
 * Makes the socket for spans, where there is none yet, or a process that had one end has shut it
 * down: those that are set up from here on have a new one. 0 or -errno.
 */
int front_make_trace(struct front *front);

/* Closes the eventfds of all seats, and the socket for spans. */
void front_close_wakes(struct front *front);

/* The time of day, for what people read: ms since 1970. */
uint64_t front_time_of_day(void);
