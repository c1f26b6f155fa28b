#pragma once

/*
 * Messages between the supervisor and a shard: SOCK_SEQPACKET on descriptor 3 of the shard. Each
 * has a version and a length that must be exact, so that two versions of the program can tell that
 * they do not understand each other. LEAVE and DRAIN, which make a shard end, are understood in
 * every version, so their numbers and the members before the union never change.
 *
 * A shard whose supervisor has ended goes on serving, and reports (CTL_REPORT) at a socket in
 * run_dir to the supervisor that is started in its place; that connection is its control socket
 * then.
 */

#include "common/base.h"
#include "common/buf.h"
#include "common/fdpass.h"
#include "common/ids.h"
#include "frontd/ipc/shm.h"
#include "frontd/ipc/tls_tickets.h"

enum {
    CTL_FD = 3,
    CTL_VERSION = 2,
    CTL_NAME_MAX = 256,
    CTL_FILE_MAX = 64,    /* of the socket of a worker that frontd runs, its NUL included */
    CTL_LISTEN_MAX = 128, /* sockets in one message; there may be several messages */
};

/*
 * In run_dir: a folder that the shards' user can enter but not list or change, and in it the
 * socket for CTL_REPORT.
 */
#define CTL_REPORT_DIR  "shards"
#define CTL_REPORT_NAME "report.sock"
#define CTL_REPORT_SOCK CTL_REPORT_DIR "/" CTL_REPORT_NAME

enum ctl_type {
    CTL_START = 1,  /* supervisor: the shard's identity and its config; fds: enum ctl_start_fd */
    CTL_LISTEN = 2, /* supervisor: listening sockets; fds in the order of `listeners` */
    CTL_RUN = 3,    /* supervisor: all descriptors have been sent, look for workers */
    CTL_READY = 4,  /* shard: ready to accept */
    CTL_DRAIN = 5,  /* supervisor: stop accepting, finish calls, exit within the drain limit */
    CTL_PEER = 6,   /* supervisor: a socket to another shard; fds: enum ctl_peer_fd */
    CTL_TAKE = 7,   /* supervisor, to a new shard: a socket to an old one with clients; one fd */
    CTL_GIVE = 8,   /* supervisor, to an old shard: a socket to a new shard; one fd */
    CTL_LEAVE = 9,  /* supervisor, to an old shard: stop accepting, hand the clients over, exit */
    /* shard, to a supervisor that did not start it: its shared memory, one fd. LISTEN and READY
     * follow. Which shard it is stands in the supervisor's record. */
    CTL_REPORT = 10,
    CTL_OPEN = 11, /* supervisor: start accepting */
    CTL_HUNG = 12, /* shard: a worker that frontd runs seems to have hung */
    CTL_TLS = 13,  /* supervisor: certificates and keys (tls_material.h), after START; one fd */
    /* supervisor: the keys of session tickets, after START and whenever they change. shard: those
     * that it has, in a report. Neither is told them that has no listener with `tickets`, so that
     * no program without TLS is. Another layout of them is another message. */
    CTL_TICKETS = 14,
    /* supervisor: a question, whose JSON text is in the memfd; one fd. Sent to shards of the same
     * version of the program alone. */
    CTL_ASK = 15,
    CTL_TELL = 16, /* shard: an answer, or a part of one; one fd, a sealed memfd of JSON text */
    /* supervisor: the file of the access log, after START and whenever it is opened anew; one fd.
     * Only where the shard's config has one, and to shards that this program has started. */
    CTL_ACCESS_LOG = 17,
    CTL_TRACE = 18, /* supervisor: the socket for spans of traces, after START; one fd */
};

/* What an operator asks of shards: see frontd/shard/inspect/. */
enum ctl_question {
    CTL_QUESTION_STOP, /* no more is wanted of the question `of`; there is no answer */
    CTL_QUESTION_CONNS,
    CTL_QUESTION_TOPICS,
    CTL_QUESTION_KICK,
    CTL_QUESTION_ERRORS,
    CTL_QUESTION_TAP,
    CTL_QUESTION_EXPLAIN,
    CTL_QUESTION_PROFILE,
    CTL_QUESTIONS
};

enum {
    CTL_ASK_MAX = 16 << 10, /* bytes of a question's text */
    CTL_TELL_MAX = 1 << 20, /* bytes of an answer's text */
};

/* Descriptors of START; the last is the eventfd that wakes this shard. */
enum ctl_start_fd { CTL_CONF, CTL_SHARE, CTL_WAKE, CTL_START_FDS };

/* Of PEER: a socket for pushes, and the eventfd that wakes the other shard. */
enum ctl_peer_fd { CTL_PEER_SOCK, CTL_PEER_WAKE, CTL_PEER_FDS };

struct ctl_start {
    uint64_t incarnation; /* of this process, 32 bits: no other shard process has the same */
    uint64_t generation;
    uint32_t seat;
    uint32_t shard;
    uint32_t shards;
    /* For a shard that starts while others serve, until OPEN: the set of their seats, and the set
     * of the pools of which it has to reach a worker where they do. Else both are 0. */
    uint64_t serving;
    uint64_t needed;
    char instance[33];              /* the front's name in HELLO */
    uint8_t conn_key[IDS_KEY_SIZE]; /* the key of connection ids; secret */
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
    uint64_t removed; /* a bit for each listener of the config that no shard has after this one */
};

struct ctl_hung {
    char file[CTL_FILE_MAX]; /* the worker's socket, in run_dir/workers */
    uint8_t late;            /* 1: a call was never answered; 0: it does not answer PING */
};

struct ctl_ask {
    uint64_t id;       /* counts up on each control socket; over 0 */
    uint32_t question; /* enum ctl_question */
};

struct ctl_tell {
    uint64_t id;  /* of the question */
    uint8_t more; /* 1: this is not the last part */
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
        struct ctl_ask ask;
        struct ctl_tell tell;
        struct tls_ticket_keys tickets; /* secret */
    } u;
};

/*
 * Sends a message of that type, whose union is filled in; descriptors are borrowed. Returns 0 or
 * -errno.
 */
int ctl_send(
    int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds);

/* Whether another version of the program has sent it: then its union is empty. */
static inline bool ctl_is_foreign(const struct ctl_message *message)
{
    return message->version != CTL_VERSION;
}

/*
 * Receives one message. fds has room for FDPASS_FDS_MAX. Returns 0 with *ret_message and the
 * descriptors, which are the caller's, or:
 * - -EAGAIN
 * - -EPIPE: the peer has closed
 * - -EMFILE: descriptors were dropped, since this process is at its limit
 * - -ENOTSUP: a message of another version of the program, and not LEAVE or DRAIN
 * - -EPROTO: no message of this program
 * - another -errno
 *
 * On an error the descriptors that came are closed.
 */
int ctl_receive(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds);

/*
 * As ctl_receive(), but nothing is closed: *ret_nfds descriptors are the caller's, whatever is
 * returned. For a peer that is not trusted: close() may wait for the other side of a descriptor.
 */
int ctl_receive_all(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds);

/* A sealed memfd of a text, the caller's; or -errno. */
int ctl_make_text(struct span text);

/*
 * Sends a message with a text, in a memfd that is sealed. Returns 0, -EAGAIN where the socket is
 * full, or another -errno.
 */
int ctl_send_text(int sock, enum ctl_type type, struct ctl_message *message, struct span text);

/*
 * Reads the text of such a message from its descriptor, which stays the caller's: it has to be a
 * memfd with all seals that keep its content, of at most `max` bytes. Never waits, whatever it is.
 * Appends to `out`. Returns 0, -EPROTO where it is something else, or -ENOMEM.
 */
int ctl_read_text(int fd, size_t max, struct buf *out);

/*
 * Tells the supervisor that one of its workers seems to have hung. path: of the worker's socket.
 * late: it has not answered a call; else not even PING. The supervisor decides what follows;
 * without a supervisor nothing does.
 */
void ctl_tell_hung(const char *path, bool late);
