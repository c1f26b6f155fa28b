#pragma once

/* The keys of one direction of a connection, how they are derived, and the nonces of its records.
 */

#include "frontd/codec/tls_crypto.h"

/*
 * One direction. Sequence numbers have 32 bits, since no key is used for as many records (see
 * tls_record.h).
 */
struct tls_keys {
    uint8_t secret[TLS_SECRET_MAX]; /* 1.3: the traffic secret; 1.2: zeroes, it has none */
    uint8_t key[TLS_KEY_MAX];       /* zeroes behind a shorter key */
    /*
     * 1.3, and 1.2 with CHACHA20: XORed with the sequence number. 1.2 with GCM: the salt (4 bytes),
     * then the explicit nonce of sequence number 0, to which the sequence number is added.
     */
    uint8_t iv[TLS_NONCE_SIZE];
    uint32_t sequence; /* of the next record */
};

/*
 * Of an application traffic secret (RFC 8446 section 7.3), for the first record: sequence number
 * 0. secret: tls_suite_secret_size() bytes; may be ret_keys->secret. Returns 0 or -ENOMEM, then
 * *ret_keys has been wiped.
 */
int tls_keys_derive(struct tls_keys *ret_keys, struct tls_crypto *crypto, enum tls_suite suite,
    const uint8_t *secret);

/*
 * The next generation, after a KeyUpdate (RFC 8446 section 7.2); what was the key is wiped, in the
 * contexts too. Returns 0 or -ENOMEM, then *keys has been wiped.
 */
int tls_keys_update(struct tls_keys *keys, struct tls_crypto *crypto, enum tls_suite suite);

/* What a handshake of TLS 1.2 leaves; borrowed. */
struct tls_master {
    const uint8_t *secret;        /* TLS_MASTER_SIZE bytes */
    const uint8_t *client_random; /* TLS_RANDOM_SIZE bytes */
    const uint8_t *server_random; /* TLS_RANDOM_SIZE bytes */
};

/*
 * Both directions of TLS 1.2 (RFC 5246 section 6.3), for sequence number 0, that of Finished. The
 * explicit nonce of GCM is 0: tls_keys_set_explicit() sets it. Returns 0 or -ENOMEM, then both have
 * been wiped.
 */
int tls_keys_derive12(struct tls_keys *ret_client, struct tls_keys *ret_server,
    struct tls_crypto *crypto, enum tls_suite suite, const struct tls_master *master);

/* 1.2 with GCM: the explicit nonce that goes with sequence number 0. */
void tls_keys_set_explicit(struct tls_keys *keys, const uint8_t explicit_nonce[static 8]);

/* The nonce of the record with the present sequence number: XORed, or added (1.2 with GCM). */
void tls_keys_nonce_xored(const struct tls_keys *keys, uint8_t ret_nonce[static TLS_NONCE_SIZE]);
void tls_keys_nonce_added(const struct tls_keys *keys, uint8_t ret_nonce[static TLS_NONCE_SIZE]);

/* Wipes the keys, and the context that has them. */
void tls_keys_wipe(struct tls_keys *keys, struct tls_crypto *crypto);
