#pragma once

/*
 * Messages between the supervisor and a shard: SOCK_SEQPACKET on descriptor 3 of the shard. Each
 * has a version and a length that must be exact, so that two versions of the program can tell that
 * they do not understand each other. What has a shard end, LEAVE and DRAIN, is understood in every
 * version, and so their numbers and the members before the union never change.
 *
 * A shard whose supervisor is gone serves on, and reports (CTL_REPORT) at a socket in run_dir to
 * the supervisor that is started in its place; that connection is its control socket then.
 */

#include "common/base.h"
#include "common/fdpass.h"
#include "common/ids.h"
#include "frontd/ipc/shm.h"

enum {
    CTL_FD = 3,
    CTL_VERSION = 2,
    CTL_NAME_MAX = 256,
    CTL_FILE_MAX = 64,    /* of the socket of a worker that frontd runs, its NUL included */
    CTL_LISTEN_MAX = 128, /* sockets in one message; there may be several messages */
};

/* In run_dir: a folder that the shards' user can enter and nothing more, and the socket in it to
 * report at. */
#define CTL_REPORT_DIR  "shards"
#define CTL_REPORT_NAME "report.sock"
#define CTL_REPORT_SOCK CTL_REPORT_DIR "/" CTL_REPORT_NAME

enum ctl_type {
    CTL_START = 1,  /* supervisor: who you are; fds: enum ctl_start_fd */
    CTL_LISTEN = 2, /* supervisor: listening sockets; fds in the order of `listeners` */
    CTL_RUN = 3,    /* supervisor: that was all, look for workers */
    CTL_READY = 4,  /* shard: could accept */
    CTL_DRAIN = 5,  /* supervisor: stop accepting, finish calls, exit within the drain limit */
    CTL_PEER = 6,   /* supervisor: another shard; fds: enum ctl_peer_fd */
    CTL_TAKE = 7,  /* supervisor, to a new shard: a socket to an old one that has clients; one fd */
    CTL_GIVE = 8,  /* supervisor, to an old shard: a socket to a new one; one fd */
    CTL_LEAVE = 9, /* supervisor, to an old shard: stop accepting, give your clients away, exit */
    CTL_REPORT =
        10,        /* shard, to a supervisor that did not start it: here I am; one fd, the shared
                    * memory. LISTEN and READY follow. Who it is stands in the supervisor's record */
    CTL_OPEN = 11, /* supervisor: start accepting */
    CTL_HUNG = 12, /* shard: a worker that frontd runs has hung, as it seems from here */
};

/* Descriptors of START; the last is the eventfd that wakes this shard. */
enum ctl_start_fd { CTL_CONF, CTL_SHARE, CTL_WAKE, CTL_START_FDS };

/* Of PEER: a socket for pushes, and the eventfd that wakes the other shard. */
enum ctl_peer_fd { CTL_PEER_SOCK, CTL_PEER_WAKE, CTL_PEER_FDS };

struct ctl_start {
    uint64_t incarnation; /* of this process, 32 bits: no other shard process has it */
    uint64_t generation;
    uint32_t seat;
    uint32_t shard;
    uint32_t shards;
    /* Of a shard in whose stead others serve until OPEN: their seats, and the pools of the config,
     * a bit each, of which it has to reach a worker where they do. Else both are 0. */
    uint64_t serving;
    uint64_t needed;
    char instance[33];              /* of the front, for HELLO */
    uint8_t conn_key[IDS_KEY_SIZE]; /* of connection ids; secret */
    char conf_name[CTL_NAME_MAX];   /* for messages about the config */
    struct share_table table;
};

struct ctl_listen {
    uint32_t count;
    uint32_t listeners[CTL_LISTEN_MAX]; /* index into the config */
};

struct ctl_peer {
    uint32_t seat;
};

struct ctl_leave {
    uint64_t removed; /* a bit for each listener of the config that nobody has after us */
};

struct ctl_hung {
    char file[CTL_FILE_MAX]; /* of its socket, in run_dir/workers */
    uint8_t late;            /* 1: a call was never answered; 0: it does not answer PING */
};

struct ctl_message {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t length; /* of the whole message, bytes */
    union {
        struct ctl_start start;
        struct ctl_listen listen;
        struct ctl_peer peer; /* PEER, TAKE, GIVE */
        struct ctl_leave leave;
        struct ctl_hung hung;
    } u;
};

/* Sends a message of that type, its union filled in; descriptors are borrowed. 0 or -errno. */
int ctl_send(
    int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds);

/* Whether it was sent by another version of the program: it has nothing in its union then. */
static inline bool ctl_is_foreign(const struct ctl_message *message)
{
    return message->version != CTL_VERSION;
}

/*
 * Receives one message. Returns 0 with *ret_message and the descriptors, which are the caller's;
 * -EAGAIN; -EPIPE when the peer has closed; -EMFILE when descriptors were dropped since this
 * process is at its limit; -ENOTSUP when it is one of another version of the program, and not LEAVE
 * or DRAIN; -EPROTO when it is none of ours; or another -errno. What came with a message that is
 * not returned is closed. fds has room for FDPASS_FDS_MAX.
 */
int ctl_receive(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds);

/*
 * The same, but nothing is closed: *ret_nfds descriptors are the caller's whatever is returned. For
 * a peer that may be anybody: close() may wait for what is on the other side of a descriptor.
 */
int ctl_receive_all(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds);

/*
 * Tells the supervisor of a worker of its own that seems to hang. path: of its socket. late: it has
 * not answered a call; else not even PING. What the supervisor does about it is its business; where
 * there is none, nobody does anything.
 */
void ctl_tell_hung(const char *path, bool late);
