#pragma once

/*
 * Messages between the supervisor and a shard: SOCK_SEQPACKET on descriptor 3 of the shard. Each
 * has a version and a length that must be exact, so that two versions of the program can tell that
 * they do not understand each other.
 */

#include "common/base.h"
#include "common/fdpass.h"

enum {
    CTL_FD = 3,
    CTL_VERSION = 1,
    CTL_NAME_MAX = 256,
};

enum ctl_type {
    CTL_START = 1,  /* supervisor: who you are; fds: config, share, one wake-up eventfd a shard */
    CTL_LISTEN = 2, /* supervisor: listening sockets; fds in the order of `listeners` */
    CTL_RUN = 3,    /* supervisor: that was all, start accepting */
    CTL_READY = 4,  /* shard: accepting */
    CTL_PEER = 6,   /* supervisor: a socket to another shard; one fd */
    CTL_DRAIN = 5,  /* supervisor: stop accepting, finish calls, exit within the drain limit */
};

struct ctl_start {
    uint64_t incarnation; /* of this process, 32 bits: no other shard process has it */
    uint64_t generation;
    uint32_t seat;
    uint32_t shard;
    uint32_t shards;
    char instance[33];            /* of the front, for HELLO */
    char conf_name[CTL_NAME_MAX]; /* for messages about the config */
};

struct ctl_listen {
    uint32_t count;
    uint32_t listeners[FDPASS_FDS_MAX]; /* index into the config */
};

struct ctl_peer {
    uint32_t shard;
};

struct ctl_message {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t length; /* of the whole message, bytes */
    union {
        struct ctl_start start;
        struct ctl_listen listen;
        struct ctl_peer peer;
    } u;
};

/* Sends a message of that type, its union filled in; descriptors are borrowed. 0 or -errno. */
int ctl_send(
    int sock, enum ctl_type type, struct ctl_message *message, const int *fds, size_t nfds);

/*
 * Receives one message. Returns 0 with *ret_message and the descriptors, which are the caller's;
 * -EAGAIN; -EPIPE when the peer has closed; -EPROTO when it is not one of ours (its descriptors are
 * closed); or another -errno. fds has room for FDPASS_FDS_MAX.
 */
int ctl_receive(int sock, struct ctl_message *ret_message, int *fds, size_t *ret_nfds);
