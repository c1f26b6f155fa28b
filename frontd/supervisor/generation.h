#pragma once

/* The shards that serve one config; a new config or binary makes a new generation. */

#include "common/buf.h"
#include "frontd/config/config.h"
#include "frontd/ipc/metrics.h"
#include "frontd/supervisor/front.h"
#include "frontd/supervisor/shard_process.h"

enum generation_role {
    GENERATION_STARTING, /* not all are ready yet; the one before it serves */
    GENERATION_SERVING,
    GENERATION_LEAVING,  /* gives its clients to the one that serves */
    GENERATION_STOPPING, /* the front ends, or this one was given up */
};

/* What is known of a memory that shards share, from a source that no shard can write to. */
struct generation_share {
    bool known; /* this program lays it out in the same way */
    struct share_table table;
    uint64_t size; /* which memory it is; 0: not said */
    uint64_t dev;
    uint64_t ino;
};

/* What generations tell the supervisor: a front's table of it. */
struct generation_ops {
    /* A shard is ready. */
    void (*ready)(struct front *front, struct generation *generation);
    /* A shard has ended, and is not started again. */
    void (*gone)(struct front *front, struct generation *generation);
    /*
     * Which shard processes there are has changed. One that is new is told nothing before this
     * returns.
     */
    void (*changed)(struct front *front);
    /* A shard says that a worker hangs: the name of its socket, whatever the shard has sent. */
    void (*hung)(struct front *front, const char *file, bool late);
    /* A shard has told something that it was asked for, or says so: a JSON object, borrowed. */
    void (*told)(struct front *front, struct shard_process *process, const struct ctl_tell *tell,
        struct span text);
};

struct generation {
    struct front *front;
    enum generation_role role;
    uint64_t number; /* counts up */
    uint64_t loaded; /* ms since 1970: when its config was read */
    struct conf *conf;
    int conf_fd;   /* its text, for the shards */
    int tls_fd;    /* certificates and keys, for the shards; -1: none have been read */
    int token_fd;  /* the token of the admin address; -1: none has been read */
    int access_fd; /* of the access log; -1: it is not open */
    int share_fd; /* of the same memory as the generations before and after, where they can share */
    struct share *share;
    struct shard_process *processes;
    uint32_t nprocesses;
    unsigned handles; /* libuv's that are not closed yet; freed with the last */
    bool closing;
    bool stand_in; /* conf is the file's: its own one is of another version of the program */
};

/*
 * A generation without processes; reads the certificates of its listeners. conf: consumed, also on
 * failure. text: of the config. before: that which serves now, for its shared memory; NULL: none.
 * Returns NULL, with a message in `error`.
 */
struct generation *generation_new(struct front *front, struct conf *conf, const struct buf *text,
    const struct generation *before, char *error, size_t error_size);

/*
 * A generation that runs already; its processes are adopted afterwards. conf_fd, tls_fd (-1: not
 * known) and share_fd: consumed, also on failure. known: of the shared memory. A config that this
 * program does not understand, and shared memory that it cannot map, are done without. Returns
 * NULL, with a message in `error`.
 */
struct generation *generation_found(struct front *front, int conf_fd, int tls_fd, int share_fd,
    const struct generation_share *known, uint64_t number, uint32_t shards, char *error,
    size_t error_size);

/* Makes a sealed memfd of the text of a config, as shards get it: the caller's, or -errno. */
int generation_make_conf(const char *text, size_t n);

/*
 * The certificates and keys of its listeners, which are read again where this process does not
 * have them: it has found the generation. A failure is logged. Returns a descriptor of the
 * generation's, -ENOENT where no listener has tls, or another -errno.
 */
int generation_tls(struct generation *generation);

/* The token of the admin address, in the same way; -ENOENT where none is asked for. */
int generation_token(struct generation *generation);

/*
 * The file of its access log, which is opened where it is not. A failure is logged. Returns a
 * descriptor of the generation's, or -ENOENT where there is none.
 */
int generation_access(struct generation *generation);

/* Opens that file anew, and tells its shards. A failure is logged: the file before stays in use. */
void generation_reopen(struct generation *generation);

/* The longest lifetime of the session tickets of its listeners, ms; 0: there are none. */
uint64_t generation_tickets(const struct generation *generation);

/* Frees what is held in the shared memory for processes that have ended, of all generations. */
void generation_reclaim(struct front *front);

/* For a while afterwards, now and then: what could not be booked yet (metric_book.h). */
void generation_book(struct front *front);

/* Counts a reload, in the memory of the generation that serves; NULL: there is none. */
void generation_count_reload(
    struct generation *generation, enum metric_program program, enum metric_reload outcome);

/* Notes for the metrics that its config is the one that serves from now on. */
void generation_count_config(struct generation *generation);

/* Counts the log lines that this process has left out since the last time. NULL: none. */
void generation_count_log(struct generation *generation);

/*
 * Gives a seat to each shard of a generation that was found without a process, so that it can be
 * started. 0 or -errno.
 */
int generation_seat_missing(struct generation *generation);

/* Starts all shards. */
void generation_start(struct generation *generation);

/* Starts the shards of a serving generation that have no process, and are not about to have one. */
void generation_restart_missing(struct generation *generation);

/* From now on it serves: its shards accept, and those that end are started again. */
void generation_serve(struct generation *generation);

/* Its shards give their clients to those of `next`, and end. */
void generation_leave(struct generation *generation, struct generation *next);

/* Its shards finish what is in progress, and end. */
void generation_drain(struct generation *generation);

/* Looks whether its shards live: shard_process_check(). */
void generation_check(struct generation *generation, uint64_t elapsed);

/* Ends all its processes at once. */
void generation_kill(struct generation *generation);

/* Whether there is a process of it. */
bool generation_alive(const struct generation *generation);

/* Whether all shards are ready. */
bool generation_ready(const struct generation *generation);

/*
 * Lets go of everything; no process may be left. It is freed when libuv is done with its handles.
 */
void generation_close(struct generation *generation);

/* For shard_process.c */

void generation_shard_ready(struct generation *generation, struct shard_process *process);

/* A shard of it has ended. Returns whether it is to be started again. */
bool generation_shard_ended(struct generation *generation);

void generation_handle_closed(struct generation *generation);
