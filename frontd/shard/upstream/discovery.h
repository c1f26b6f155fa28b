#pragma once

/*
 * Watches a pattern of UNIX sockets by inotify, and tells the pool which of them there are. What a
 * socket is called here is its worker's name in the config and in the log: "unix:/run/…".
 */

#include "frontd/shard/net/ctx.h"

struct watch;

/*
 * Discovery → pool. A scan is scan_begun(), has_worker() and perhaps add_worker() for each socket
 * that fits the pattern, and scan_ended(). Names are borrowed.
 */
struct watch_ops {
    void (*scan_begun)(struct watch *watch);
    /* Whether the pool has this socket's worker, which the scan has met now. */
    bool (*has_worker)(struct watch *watch, const char *name);
    /* The scan has met a socket that is new: its worker is added. Returns 0 or -errno. */
    int (*add_worker)(struct watch *watch, const char *name, const struct conf_address *address);
    /* Workers of this pattern that the scan has not met have lost their sockets. */
    void (*scan_ended)(struct watch *watch);
    /* A socket of that name has been made anew, whether it fits the pattern or not. */
    void (*appeared)(struct watch *watch, const char *name);
};

struct watch {
    struct ctx *ctx;
    const struct watch_ops *ops;
    void *owner;
    const char *pool;    /* its name, for the log */
    const char *pattern; /* the whole path; its last part may have wildcards */
    char *folder;
    uv_poll_t poll;
    uv_timer_t scan; /* while the folder cannot be watched */
    int fd;          /* inotify */
    int handle;      /* of the folder; -1: not watched */
    uint64_t odd;    /* hash of what fits and is no socket, as was logged last; 0: nothing */
    bool missing;    /* that the folder is not there has been logged */
};

/*
 * Starts to watch, with a scan from within. owner: for the ops, which find it in the watch. pool:
 * the pool's name. All of it is borrowed until the watch has been closed. Returns 0 or -errno, and
 * the shard ends then.
 */
int watch_init(struct watch *watch, struct ctx *ctx, const struct watch_ops *ops, void *owner,
    const char *pool, const char *pattern);

/* Stops. The watch's memory may be used again once the loop has run its close callbacks. */
void watch_close(struct watch *watch);

/* Whether a socket's address is one that the pattern fits. */
bool watch_fits(const struct watch *watch, const struct conf_address *address);
