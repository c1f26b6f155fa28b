#pragma once

/*
 * Live connections go from the shards of the old generation to those of the new: what the two sides
 * say to each other, over a SOCK_SEQPACKET socket for each pair of shards. The old side is
 * sender.c, the new side receiver.c.
 *
 *   plain connections          with keys among them
 *   old → new  BATCH           BATCH, with HANDOVER_TWICE
 *   new → old  TAKEN           TAKEN
 *              they begin      they wait
 *   old → new                  YOURS, or the end of the socket
 *                              they begin
 *
 * A key that seals what is written must never be used by two processes: what both write under the
 * same number can be read by anybody who sees it. So a batch in which any connection has keys
 * (client_has_keys()) is acknowledged twice. Until TAKEN lies at the old side, its connections are
 * the old side's; from TAKEN on neither side reads or writes them; with YOURS they are the new
 * side's. The old side closes its end only when it has no keys of such a batch any more, or ends
 * as a process: so the end of the socket says the same as YOURS. The new side never gives up to
 * wait for one of the two while the old one is alive, since a process that is held up for long may
 * still go on: the supervisor ends those that hang.
 *
 * A new side of a program that does not know YOURS does not say HANDOVER_TWICE in its HELLO, and
 * is not sent connections with keys.
 */

#include "common/fdpass.h"
#include "frontd/shard/mesh/journal.h"

enum {
    HANDOVER_VERSION = 1,
    /* Connections in a message: one descriptor more carries their states. */
    HANDOVER_BATCH_MAX = FDPASS_FDS_MAX - 1,
    HANDOVER_BITS = (HANDOVER_BATCH_MAX + 7) / 8, /* bytes with a bit for each of them */
    /* A shard is not waited for longer than this: it hangs, and what it passes on later may be
     * missed. The end of a shard is noticed at once; one that is held up for seconds, on a busy
     * machine, is waited for. */
    HANDOVER_WAIT_MS = 10 * 1000,
};

enum handover_type {
    HANDOVER_HELLO = 1, /* new → old: ready; pushes that came after `heard` are in its journal */
    HANDOVER_BATCH = 2, /* old → new: connections; fds: a memfd with their states, then theirs */
    HANDOVER_HEARD = 3, /* old → new: what it has heard; pushes up to there are not needed */
    HANDOVER_TAKEN = 4, /* new → old: which of a batch's connections it has now */
    HANDOVER_YOURS = 5, /* old → new: those of a batch with HANDOVER_TWICE are not used here */
};

/* In `flags` of a message: bits that other messages do not have. */
enum handover_flags {
    HANDOVER_FULL = 1,  /* TAKEN: for the others there were no descriptors, or no memory */
    HANDOVER_TWICE = 2, /* HELLO: YOURS is known; BATCH: it follows, if any is taken */
};

/* In the memfd: for each connection its state's length in bytes (u32, little-endian), the state. */

struct handover_message {
    uint32_t magic;
    uint16_t version;
    uint16_t type;                /* enum handover_type */
    uint32_t batch;               /* BATCH, TAKEN, YOURS: its number, counting up */
    uint32_t count;               /* BATCH, TAKEN, YOURS: connections in it */
    uint8_t flags;                /* enum handover_flags */
    uint8_t taken[HANDOVER_BITS]; /* TAKEN: a bit for each connection */
    struct positions heard;       /* HELLO, BATCH, HEARD: by the sender so far */
};

/* Its size is that of every version of the program: a message of another size is none. */
#if __SIZEOF_POINTER__ == 8
_Static_assert(sizeof(struct handover_message) == 56 + 16 * SHARE_SEATS, "part of the protocol");
#endif

/* Whether a message of TAKEN names any connection. */
bool handover_takes_any(const uint8_t *taken);

/* Sends a message, of which magic, version and type are filled in here. fds: borrowed. 0 or
 * -errno. */
int handover_send(int sock, enum handover_type type, struct handover_message *message,
    const int *fds, size_t nfds);

/*
 * Receives one message. fds: room for FDPASS_FDS_MAX. Returns 0 with the descriptors, which are the
 * caller's, or
 * -EAGAIN: there is none;
 * -EPIPE: the peer has closed;
 * -EMFILE: descriptors were dropped since this process is at its limit; *ret_message is right, and
 *   the descriptors that did come are closed;
 * -EPROTO: it is no message of the hand-over; or another -errno.
 */
int handover_receive(int sock, struct handover_message *ret_message, int *fds, size_t *ret_nfds);

/*
 * The state that begins at *at, of the `size` bytes at `states`; borrowed. *at is where the next
 * one begins then. Empty where there is none, or it is cut short: there are no others after that.
 */
struct span handover_next_state(const char *states, size_t size, size_t *at);
