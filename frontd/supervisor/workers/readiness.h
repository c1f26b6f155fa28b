#pragma once

/* Asks a worker whether it is ready: dials it as a front does, and waits for its HELLO. */

#include <sys/un.h>
#include <uv.h>

#include "common/buf.h"

struct probe {
    uv_poll_t poll;
    uv_timer_t retry;
    struct buf in;
    struct sockaddr_un address;
    const char *pool;  /* borrowed */
    const char *wrong; /* with the last try; static text, NULL: nothing was */
    void (*ready)(void *data);
    void *data;
    int fd;        /* -1: not connected */
    unsigned open; /* handles */
};

/*
 * Asks until the worker has answered or the probe is closed; whoever started it sets the time
 * limit. path: of its socket. pool: borrowed until the end. ready: called once, from the loop; the
 * probe still is to be closed then. Returns 0 with *ret_probe, or -errno.
 */
int probe_open(uv_loop_t *loop, const char *path, const char *pool, void (*ready)(void *data),
    void *data, struct probe **ret_probe);

/* What was wrong when it was last tried; static text. */
const char *probe_wrong(const struct probe *probe);

/* Accepts NULL. */
void probe_close(struct probe *probe);
