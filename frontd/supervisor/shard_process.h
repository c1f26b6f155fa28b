#pragma once

/* A shard process as its supervisor sees it. */

#include <sys/types.h>
#include <uv.h>

#include "common/log.h"
#include "frontd/ipc/control.h"
#include "frontd/supervisor/heartbeat.h"
#include "frontd/system/process.h"

struct generation;

enum shard_process_state {
    SHARD_PROCESS_DOWN,     /* no process; restarts when its timer says so */
    SHARD_PROCESS_STARTING, /* running, not ready yet */
    SHARD_PROCESS_READY,    /* accepting, or giving its clients away */
};
enum { SHARD_PROCESS_STATES = SHARD_PROCESS_READY + 1 };

struct shard_process {
    struct generation *generation;
    uv_poll_t control;
    uv_poll_t end; /* of a process that is not our child: its pidfd */
    uv_timer_t restart;
    int sock; /* the control socket; -1: none */
    int pidfd;
    pid_t pid; /* -1: no process */
    uint32_t shard;
    uint32_t seat;
    uint64_t incarnation;
    struct process_mark mark;       /* of the process */
    enum shard_process_state state; /* changes by shard_process_move() alone */
    bool control_open;
    bool end_open;
    uint8_t closing;   /* of control and end: how many the loop still closes */
    uint64_t started;  /* ms */
    unsigned failures; /* in a row: ends soon after the start */
    struct heartbeat heartbeat;
    uint64_t beats_before; /* of its seat, when it was started */
    uint64_t starting;     /* ms that it has been seen starting for */
    bool hung;             /* it has hung, and was killed */
    bool asks;             /* it knows CTL_ASK: this program has started it, or one that does */
    uint64_t owed;         /* answers: questions that it was asked, and has not answered */
    struct log_rate tells; /* how often it tells more than these: parts, and answers to others */
    bool ours;             /* this program has started it, in this process */
};

/* seat: its place in the shared memory, for all the processes that it will be. */
void shard_process_init(
    struct shard_process *process, struct generation *generation, uint32_t shard, uint32_t seat);

/* Changes its state. A move that its table does not have is a bug. */
void shard_process_move(struct shard_process *process, enum shard_process_state state);

/* Starts the process and sends it what it needs. A failure is logged and tried again later. */
void shard_process_start(struct shard_process *process);

/*
 * Takes over a process that runs already, since this program was executed anew, or has found shards
 * of a supervisor that was killed. Where process->mark says something, it has to be that process
 * still. sock: its control socket, consumed. ours: waitpid() will tell of its end. ready: it has
 * said READY. Returns 0, -ESRCH where it has ended, or another -errno.
 */
int shard_process_adopt(struct shard_process *process, pid_t pid, int sock, bool ours, bool ready);

/* Its process has ended. status: as waitpid() said; -1: it is not known. */
void shard_process_ended(struct shard_process *process, int status);

/* The same, where its generation is not complete yet: that is not told. */
void shard_process_lost(struct shard_process *process, int status);

/* Starts a process for a shard that has none, later where it keeps ending. */
void shard_process_restart(struct shard_process *process);

/* Sends a message without descriptors, or kills it where that fails. */
void shard_process_tell(
    struct shard_process *process, enum ctl_type type, struct ctl_message *message);

void shard_process_kill(struct shard_process *process);

/*
 * Kills the process where its loop has not turned for the config's `shard_timeout`, or where one
 * that serving shards miss does not become ready. elapsed: ms since the look before.
 */
void shard_process_check(struct shard_process *process, uint64_t elapsed);

/* Closes its handles; each counts in generation->handles until libuv has let go of it. */
void shard_process_close(struct shard_process *process);

/* "shard 3/0", for the log: which shard of which generation. Static, until the next call. */
const char *shard_process_name(const struct shard_process *process);
