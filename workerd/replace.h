#pragma once

/* Replacing this process by its successor, on SIGUSR2 (takeover.h is the other side). */

#include <limits.h>
#include <uv.h>

#include "common/base.h"

struct workerd;

enum replace_state {
    REPLACE_NONE,
    REPLACE_STARTED,  /* the successor has not said READY yet */
    REPLACE_GIVEN_UP, /* it was killed; its end is waited for */
    REPLACE_CLEARED,  /* it has ended; its handles are being closed */
    REPLACE_DONE,     /* it serves; this process finishes its calls */
};

struct replace {
    uv_signal_t signal;
    uv_process_t process; /* the successor */
    uv_poll_t poll;       /* of our end of the pair */
    uv_timer_t timer;     /* its time to say READY; or, once asked to, to end */
    char *const *argv;    /* NULL: SIGUSR2 is not handled */
    enum replace_state state;
    unsigned open; /* handles of the attempt that are not closed yet */
    int fd;        /* our end of the pair, -1: closed */
    bool spawned;  /* `process` is a handle */
    bool again;    /* SIGUSR2 came meanwhile */
    /* The working directory as it was named at the start; "": it has no name. */
    char cwd[PATH_MAX];
};

/* As workerd_handle_sigusr2(). */
int replace_init(struct workerd *worker, char *const *argv);

/* SIGUSR2 has come. */
void replace_asked(struct workerd *worker);

/* Whether there is a successor whose end has to be waited for. */
bool replace_pending(const struct workerd *worker);

/* The worker stops: its successor is not to serve. Where `at_once`, it is not waited for. */
void replace_cancel(struct workerd *worker, bool at_once);
