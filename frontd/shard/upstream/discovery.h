#pragma once

/* Watches a pattern of UNIX sockets by inotify: workers that appear are added, others removed. */

#include "frontd/shard/upstream/pool.h"

struct watch {
    struct pool *pool;
    const char *pattern; /* the whole path; its last part may have wildcards */
    char *folder;
    uv_poll_t poll;
    uv_timer_t scan; /* while the folder cannot be watched */
    int fd;          /* inotify */
    int handle;      /* of the folder; -1: not watched */
    uint64_t odd;    /* hash of what fits and is no socket, as was logged last; 0: nothing */
    bool missing;    /* that the folder is not there has been logged */
};

/* Starts to watch and adds what is there. Returns 0 or -errno. */
int watch_init(struct watch *watch, struct pool *pool, const struct conf_worker *worker);
void watch_close(struct watch *watch);
