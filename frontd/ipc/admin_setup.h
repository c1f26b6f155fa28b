#pragma once

/*
 * What the supervisor and its admin process say to each other on descriptor 3 of that: a
 * SOCK_SEQPACKET pair. The supervisor sends one message, SETUP, with descriptors. The admin process
 * says that it lives (a beat), at first when it serves, and then every ADMIN_BEAT_MS while its loop
 * turns. When the supervisor closes its end, the admin process finishes what it answers and ends.
 *
 * Both are always the same program, so there are no versions.
 */

#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"

enum {
    ADMIN_FD = 3,
    ADMIN_BEAT_MS = 500,
    ADMIN_FINISH_MS = 3000,                     /* what it has to finish what it answers in */
    ADMIN_SOCKETS_MAX = 4 * CONF_ADDRESSES_MAX, /* listening; a unit may pass several of one */
    ADMIN_NAME_MAX = 256,
};

/* The descriptors of SETUP; listening sockets follow. */
enum admin_fd {
    ADMIN_CONF,  /* the text of the config, sealed */
    ADMIN_SHARE, /* the shared memory, open to be read only */
    ADMIN_ASK,   /* a SOCK_STREAM socket to the supervisor, for JSON-RPC in frames */
    ADMIN_TOKEN, /* the token, sealed; may be missing: none is asked for */
    ADMIN_TRACE, /* where shards tell of spans; may be missing: none are exported */
    ADMIN_FDS,
};

struct admin_setup {
    uint32_t magic;
    uint32_t nsockets;
    uint32_t given; /* a bit for each descriptor of enum admin_fd that there is */
    uint64_t generation;
    char instance[33];              /* the front's name */
    char conf_name[ADMIN_NAME_MAX]; /* for messages about the config */
    struct share_table table;
};

/*
 * Sends SETUP. setup: all but magic, nsockets and given filled in. fds: ADMIN_FDS of them,
 * borrowed, -1 where one is missing; sockets: n of them, borrowed, at most ADMIN_SOCKETS_MAX.
 * Returns 0 or -errno.
 */
int admin_setup_send(
    int sock, struct admin_setup *setup, const int *fds, const int *sockets, uint32_t n);

/*
 * Receives SETUP. Returns 0 with *ret_setup, texts of which end, ret_fds (ADMIN_FDS of them,
 * -1 where one is missing) and ret_sockets (ADMIN_SOCKETS_MAX of room), all of them
 * the caller's; or -EAGAIN, -EPIPE where the supervisor has closed, -EPROTO, or another -errno.
 */
int admin_setup_receive(int sock, struct admin_setup *ret_setup, int *ret_fds, int *ret_sockets);

/* Says that the loop turns. A full socket is no error: what was said has not been read yet. */
void admin_setup_beat(int sock);

/*
 * Receives one message of the admin process. Returns 0: it was a beat; -EAGAIN; -EPIPE: it has
 * closed; -EPROTO: it was something else; or another -errno. *ret_nfds descriptors have come in
 * fds (FDPASS_FDS_MAX of room), which are the caller's whatever is returned: none is wanted.
 */
int admin_setup_hear(int sock, int *fds, size_t *ret_nfds);
