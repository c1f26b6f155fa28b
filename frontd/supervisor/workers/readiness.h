#pragma once

/* Asks a worker whether it is ready: dials it as a front does, and waits for its HELLO. */

#include <sys/un.h>
#include <uv.h>

#include "common/buf.h"

struct readiness {
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
 * Asks until the worker has answered or the question is closed; the caller sets the time
 * limit. path: of its socket. pool: borrowed until the end. ready: called once, from the loop; the
 * question still is to be closed then. Returns 0 with *ret_readiness, or -errno.
 */
int readiness_open(uv_loop_t *loop, const char *path, const char *pool, void (*ready)(void *data),
    void *data, struct readiness **ret_readiness);

/* What was wrong when it was last tried; static text. */
const char *readiness_wrong(const struct readiness *readiness);

/* Accepts NULL. */
void readiness_close(struct readiness *readiness);
