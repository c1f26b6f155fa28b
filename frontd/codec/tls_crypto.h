#pragma once

/*
 * What a shard has of libcrypto for TLS records: the algorithms, fetched once, and AEAD contexts.
 *
 * A context that has been given a key is 2 KB, and giving it one takes half as long again as
 * sealing a small record. So there are TLS_CONTEXTS of them a shard, and none a connection: the one
 * that was used least recently is given the next key. A context is found by the key itself, never
 * by the connection, so that no stale reference can seal with the key of another connection.
 *
 * Nothing here is shared between threads.
 */

#include "common/base.h"

enum {
    TLS_CONTEXTS = 256,   /* 128 connections in both directions; about 0.6 MB when all are in use */
    TLS_KEY_MAX = 32,     /* bytes */
    TLS_NONCE_SIZE = 12,  /* bytes, in all suites */
    TLS_TAG_SIZE = 16,    /* bytes, in all suites */
    TLS_SECRET_MAX = 48,  /* bytes: a traffic secret is as long as the digest */
    TLS_MASTER_SIZE = 48, /* bytes of a master secret of TLS 1.2 */
    TLS_RANDOM_SIZE = 32, /* bytes of client_random and server_random */
};

/* What a cipher suite says of records: the AEAD, and the digest of its derivations. */
enum tls_suite {
    TLS_AES_128_GCM, /* SHA-256 */
    TLS_AES_256_GCM, /* SHA-384 */
    TLS_CHACHA20,    /* CHACHA20-POLY1305, SHA-256 */
    TLS_SUITES,
};

/*
 * The suite of a cipher suite's number in the registry of IANA (SSL_CIPHER_get_protocol_id()): the
 * three of TLS 1.3, and of TLS 1.2 those with ECDHE. Returns false for all others.
 */
bool tls_suite_find(unsigned number, enum tls_suite *ret_suite);

size_t tls_suite_key_size(enum tls_suite suite);    /* bytes: 16 or 32 */
size_t tls_suite_secret_size(enum tls_suite suite); /* bytes: 32 or 48 */

struct tls_crypto;

/* One a shard. NULL when there is no memory, or libcrypto lacks an algorithm. */
struct tls_crypto *tls_crypto_new(void);

/* Wipes and frees all contexts. Accepts NULL; returns NULL. */
struct tls_crypto *tls_crypto_free(struct tls_crypto *crypto);

/*
 * For tests: `sealed` is called before anything is sealed, with the key (TLS_KEY_MAX bytes, zeroes
 * behind shorter ones) and the nonce; and for what OpenSSL has sealed before with a key that is
 * sealed with here (tls_crypto_sealed_before()). No two calls may ever be the same, in all
 * processes. NULL (at first): nothing is called.
 */
typedef void tls_crypto_watcher(
    void *arg, const uint8_t key[static TLS_KEY_MAX], const uint8_t nonce[static TLS_NONCE_SIZE]);
void tls_crypto_watch(struct tls_crypto *crypto, tls_crypto_watcher *sealed, void *arg);

/* A record that OpenSSL has sealed was opened with its key and its nonce. */
void tls_crypto_sealed_before(struct tls_crypto *crypto, const uint8_t key[static TLS_KEY_MAX],
    const uint8_t nonce[static TLS_NONCE_SIZE]);

/* What one record is sealed or opened with; all of it is borrowed for the call. */
struct tls_sealing {
    enum tls_suite suite;
    const uint8_t *key;   /* TLS_KEY_MAX bytes; behind a shorter key there are zeroes */
    const uint8_t *nonce; /* TLS_NONCE_SIZE bytes */
    const uint8_t *aad;   /* additional data */
    size_t aad_n;         /* bytes */
};

/*
 * Encrypts the `n` bytes at `bytes` in place and writes the tag, TLS_TAG_SIZE bytes, behind them.
 * Returns 0; or -ENOMEM before anything was encrypted; or -EIO when libcrypto fails otherwise:
 * then the nonce counts as used, and the bytes must not be sent.
 */
int tls_crypto_seal(
    struct tls_crypto *crypto, const struct tls_sealing *sealing, uint8_t *bytes, size_t n);

/*
 * Decrypts `n` bytes at `in` and checks the tag, TLS_TAG_SIZE bytes behind them. out: `in` itself,
 * or room for `n` bytes that does not overlap with it. Returns 0; -EBADMSG for a wrong tag, `out`
 * has been wiped; -ENOMEM.
 */
int tls_crypto_open(struct tls_crypto *crypto, const struct tls_sealing *sealing, const uint8_t *in,
    size_t n, uint8_t *out);

/* Wipes the context that has this key, if there is one: the key is not used any more. */
void tls_crypto_forget(struct tls_crypto *crypto, const uint8_t key[static TLS_KEY_MAX]);

/* How many contexts have a key; for tests. */
size_t tls_crypto_keyed(const struct tls_crypto *crypto);

/*
 * HKDF-Expand-Label(secret, label, "", n) of RFC 8446 section 7.1, with the digest of the suite.
 * secret: tls_suite_secret_size() bytes. n: up to as many. Returns 0, or -ENOMEM with `out`
 * wiped. `out` may be the secret.
 */
int tls_crypto_expand(struct tls_crypto *crypto, enum tls_suite suite, const uint8_t *secret,
    const char *label, uint8_t *out, size_t n);

/*
 * PRF(secret, label, seed) of RFC 5246 section 5, with the digest of the suite; secret:
 * TLS_MASTER_SIZE bytes. Returns 0, or -ENOMEM with `out` wiped.
 */
int tls_crypto_prf(struct tls_crypto *crypto, enum tls_suite suite, const uint8_t *secret,
    const char *label, struct span seed, uint8_t *out, size_t n);
