#pragma once

/*
 * Live connections go from the shards of the old generation to those of the new: what the two sides
 * say to each other, over a SOCK_SEQPACKET socket for each pair of shards. The old side is
 * sender.c, the new side receiver.c.
 */

#include "common/fdpass.h"
#include "frontd/shard/mesh/journal.h"

enum {
    HANDOVER_VERSION = 1,
    /* Connections in a message: one descriptor more carries their states. */
    HANDOVER_BATCH_MAX = FDPASS_FDS_MAX - 1,
    /* For want of news from a shard that hangs, nothing waits longer than this: what such a shard
     * passes on later may be missed. One that ends is noticed at once, and one that is only held up
     * on a busy machine, for seconds, is waited for. */
    HANDOVER_WAIT_MS = 10 * 1000,
};

enum handover_type {
    HANDOVER_HELLO = 1, /* new → old: ready; `heard`: what came later is in its journal */
    HANDOVER_BATCH = 2, /* old → new: connections; fds: a memfd with their states, then they */
    HANDOVER_HEARD = 3, /* old → new: how far it is; what was before is of no use any more */
    HANDOVER_TAKEN = 4, /* new → old: which of a batch's connections it has now */
};

/* In the memfd: for each connection its state's length in bytes (u32, little-endian), the state. */

struct handover_message {
    uint32_t magic;
    uint16_t version;
    uint16_t type;  /* enum handover_type */
    uint32_t batch; /* BATCH, TAKEN: its number, counting up */
    uint32_t count; /* BATCH, TAKEN: connections in it */
    uint8_t full;   /* TAKEN, not 0: there were no descriptors, or no memory, for those not taken */
    uint8_t taken[(HANDOVER_BATCH_MAX + 7) / 8]; /* TAKEN: a bit for each */
    struct positions heard;                      /* HELLO, BATCH, HEARD: by the sender so far */
};

/* Sends a message of that type, filled in; descriptors are borrowed. 0 or -errno. */
int handover_send(int sock, enum handover_type type, struct handover_message *message,
    const int *fds, size_t nfds);

/*
 * Receives one message. Returns 0 with the descriptors, which are the caller's; -EAGAIN; -EPIPE
 * when the peer has closed; -EMFILE when descriptors were dropped since this process is at its
 * limit (*ret_message is right, those that did come are closed); -EPROTO when it is none of ours;
 * or another -errno. fds has room for FDPASS_FDS_MAX.
 */
int handover_receive(int sock, struct handover_message *ret_message, int *fds, size_t *ret_nfds);

/*
 * The state at *at of the `size` bytes at `states`, borrowed; *at is the next one's place then. One
 * of no bytes where there is none, or where it is cut short: there are no others after that.
 */
struct span handover_next_state(const char *states, size_t size, size_t *at);
