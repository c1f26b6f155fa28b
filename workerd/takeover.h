#pragma once

/*
 * Taking over from a worker that replaces itself by this process, and what the two say to each
 * other (replace.h is the other side), over a SOCK_SEQPACKET pair of which this one was given one
 * end:
 *
 *     old → new  OFFER  the listening socket, and whose its file is; sent before the new one is
 *                       started
 *     new → old  READY  modules are loaded, the loop turns; it does not accept yet
 *     old → new  GO     the old one accepts no more: what waits in the accept queue is the new
 *                       one's
 *
 * Until GO the old one may kill the new one at any moment and nobody notices.
 */

#include <uv.h>

#include "common/base.h"
#include "workerd/socket.h"

struct workerd;

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

/* The two may be different builds: no field depends on the machine's word. */
struct takeover_message {
    uint32_t version;
    uint32_t kind;
    uint64_t dev; /* OFFER: which file it is … */
    uint64_t ino;
    uint8_t owns_path; /* OFFER: … and whether who serves removes it */
    uint8_t notify;    /* OFFER: the service manager is told who serves */
    uint8_t again;     /* GO: SIGUSR2 came meanwhile: replace yourself at once */
    uint8_t reserved;  /* 0 */
    char path[108];    /* OFFER: of the socket's file, or "" */
};
_Static_assert(sizeof(struct takeover_message) == 136, "a message has no holes");

struct takeover {
    uv_poll_t poll;
    int fd; /* our end of the pair; -1: we replace nobody, or do so no more */
    bool polled;
    bool serves;    /* GO has come */
    bool owns_path; /* with GO the file of the socket is ours */
};

/*
 * Reads one message of the other side from the pair. Returns its kind, 0 when the other side has
 * gone, -EAGAIN when there is none yet, or -EPROTO for what is no message of this version.
 * ret_fd: NULL, or where the descriptor that comes with an OFFER goes, the caller's then.
 */
int takeover_read(int pair, struct takeover_message *ret_message, int *ret_fd);

/*
 * Takes the listening socket that was offered, if this process is a successor. Returns 1 where it
 * is, 0 where not, or -errno with the reason in the log. It must not accept before it may.
 */
int takeover_begin(struct workerd *worker);

/* Whether this process is a successor, and the old one has not closed its end yet. */
bool takeover_pending(const struct workerd *worker);

/* Says READY; with GO, or when the old process dies, the worker accepts. Returns 0 or -errno. */
int takeover_ready(struct workerd *worker);

/* The worker stops or is freed: it takes over no more, unless GO is here already. */
void takeover_settle(struct workerd *worker);
