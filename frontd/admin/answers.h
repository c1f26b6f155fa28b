#pragma once

/* What is answered at the admin address: a function for each resource. */

#include "frontd/admin/asker.h"
#include "frontd/admin/http_server.h"
#include "frontd/admin/otlp_export.h"
#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"

/* Where answers come from; all of it is borrowed. */
struct answers_source {
    const struct conf *conf;
    const struct share *share; /* mapped to be read only */
    const char *instance;
    uint64_t generation;
    struct span token;                /* n == 0: none is asked for */
    const struct otlp_export *export; /* its loop is NULL where no calls are traced */
};

struct answers {
    struct answers_source source;
    struct asker asker;
};

/*
 * ask_fd: the socket to the supervisor, consumed, also on failure. lost: called once, when the
 * supervisor has closed it. Returns 0 or -errno.
 */
int answers_open(struct answers *answers, uv_loop_t *loop, const struct answers_source *source,
    int ask_fd, void (*lost)(void *data), void *data);

/* Answers a request, now or later. */
void answers_request(
    struct answers *answers, struct http_conn *conn, const struct http1_head *head);

/* A connection ends that waits for an answer. */
void answers_cancel(struct http_conn *conn);

/* No connection is left. */
void answers_close(struct answers *answers);
