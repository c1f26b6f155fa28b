#pragma once

/*
 * What a worker and the process that replaces it say to each other, over a SOCK_SEQPACKET pair of
 * which each has one end, and where each of the two stands (replace.h, takeover.h):
 *
 *     old → new  OFFER  the listening socket, and which file is its own; sent before the new one is
 *                       started
 *     new → old  READY  modules are loaded, the loop turns; it does not accept yet
 *     old → new  GO     the old one accepts no more: what waits in the accept queue is the new
 *                       one's
 *
 * Until GO the old one may kill the new one at any moment, and no call is lost.
 */

#include <limits.h>
#include <uv.h>

#include "common/base.h"

enum {
    TAKEOVER_FD = 3, /* where a successor has its end of the pair */
    /* Of the messages: another one is refused, and the old process serves on. */
    TAKEOVER_VERSION = 1,
};

/*
 * The environment variable that tells a process that it is a successor: its value is TAKEOVER_FD.
 */
#define TAKEOVER_VARIABLE "WORKERD_TAKEOVER"

enum takeover_kind { TAKEOVER_OFFER = 1, TAKEOVER_READY, TAKEOVER_GO };

/* The two processes may be different builds: no field depends on the size of a word. */
struct takeover_message {
    uint32_t version;
    uint32_t kind;
    uint64_t dev; /* OFFER: which file it is … */
    uint64_t ino;
    uint8_t owns_path; /* OFFER: … and whether the process that serves removes it */
    uint8_t notify;    /* OFFER: the service manager is told which process serves */
    uint8_t again;     /* GO: SIGUSR2 came meanwhile: replace yourself at once */
    uint8_t reserved;  /* 0 */
    char path[108];    /* OFFER: of the socket's file, or "" */
};
_Static_assert(sizeof(struct takeover_message) == 136, "a message has no holes");

struct takeover {
    uv_poll_t poll;
    int fd; /* our end of the pair; -1: this process replaces none, or has done so */
    bool polled;
    bool serves;    /* GO has come */
    bool owns_path; /* with GO the file of the socket is ours */
};

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

/*
 * Reads one message of the other side from the pair. Returns its kind, 0 when the other side has
 * gone, -EAGAIN when there is none yet, or -EPROTO for what is no message of this version.
 * ret_fd: NULL, or where the descriptor that comes with an OFFER goes, the caller's then.
 */
int handover_read(int pair, struct takeover_message *ret_message, int *ret_fd);

/* Whether there is a successor that may not serve yet, and may have to be waited for. */
static inline bool replace_pending(const struct replace *replace)
{
    return replace->state == REPLACE_STARTED || replace->state == REPLACE_GIVEN_UP;
}

/* Whether this process is a successor, and the old one has not closed its end yet. */
static inline bool takeover_pending(const struct takeover *takeover)
{
    return takeover->fd >= 0;
}
