#pragma once

/*
 * A transport of records that are masked with a key and their number, as one with encryption, for
 * tests of the hand-over. What it writes is checked against a register of this process: no number
 * of a key is ever used twice, and nothing is read or written while another owner of the key has
 * not wiped it.
 *
 * It keeps what it has read of a record, and what the socket did not take of one that it has
 * written: both are carried.
 */

#include "frontd/shard/net/transport.h"

extern const struct transport_ops sealed_ops;

enum {
    SEALED_HEAD = 6,   /* bytes of a record before what is in it */
    SEALED_MAX = 3000, /* in it: more than a small buffer of a socket takes at a time */
};

/* The client's end of a connection. */
struct sealed_peer {
    unsigned key;
    uint32_t seals; /* number of the next record that it writes */
    uint32_t opens; /* and of the next one that it reads */
    size_t nkept;   /* bytes of a record that has not come as a whole */
    char kept[2 * (SEALED_HEAD + SEALED_MAX)];
};

/* A transport with a key of its own, NULL where there is no memory, and what its peer has. */
struct transport *sealed_new(struct sealed_peer *ret_peer);

/* Puts one record with these bytes at `out`. Returns its length: `n` and SEALED_HEAD bytes. */
size_t sealed_wrap(struct sealed_peer *peer, struct span bytes, char *out);

/* Takes `n` bytes that have come, and puts what is in the records at `out`, of as many bytes at
 * least. Returns how many there are. CHECKs that each record comes once and in order. */
size_t sealed_unwrap(struct sealed_peer *peer, const char *p, size_t n, char *out);

/* Transports that there are; records that they have written. */
unsigned sealed_count(void);
unsigned sealed_written(void);

/* Forgets all keys, when there are no transports. */
void sealed_forget(void);
