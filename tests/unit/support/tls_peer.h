#pragma once

/*
 * The other end of a TLS connection after its handshake, which says what it is told to, allowed or
 * not; for tests and fuzz targets. Its keys are known.
 */

#include "frontd/codec/tls_record.h"

enum { TLS_PEER_ROOM = 17000 /* bytes that any record has at most */ };

struct tls_peer {
    struct tls_crypto *crypto;
    struct tls_keys read;
    struct tls_keys write;
    enum tls_suite suite;
    bool v13;
    uint8_t version; /* the second byte of it in records: 3 */
};

/* A connection: the record layer of this side, and the peer. */
struct tls_pair {
    struct tls_crypto *crypto;
    struct tls_record record;
    struct tls_peer peer;
};

struct tls_pair_config {
    bool v13;
    struct tls_record_config record;
};

/* The secrets are always the same, other ones for another `seed`. */
void tls_pair_init(struct tls_pair *pair, struct tls_crypto *crypto,
    const struct tls_pair_config *config, uint8_t seed);
void tls_pair_deinit(struct tls_pair *pair);

/* Settings of 1.3 and 1.2 in each suite, as server and as client. */
enum { TLS_PAIRS = 2 * TLS_SUITES * 2 };
struct tls_pair_config tls_pair_nth(unsigned i);

/*
 * Seals a record and counts it. type: of the content. padding: zeroes, in 1.3. Returns its bytes;
 * out: room for TLS_PEER_ROOM.
 */
size_t tls_peer_seal(struct tls_peer *peer, uint8_t type, const void *content, size_t n,
    size_t padding, uint8_t *out);

/* As above, without a type or padding of 1.3: `inner` is all that is encrypted. */
size_t tls_peer_seal_raw(
    struct tls_peer *peer, uint8_t outer_type, const void *inner, size_t n, uint8_t *out);

/*
 * Opens the record at `in`, of at most `n` bytes, in place. Returns its bytes, or 0 where it is not
 * a right one. *ret_content: its content, of the type *ret_type.
 */
size_t tls_peer_open(
    struct tls_peer *peer, uint8_t *in, size_t n, uint8_t *ret_type, struct span *ret_content);

/* The peer goes over to the next keys in a direction. */
void tls_peer_update(struct tls_peer *peer, struct tls_keys *keys);
