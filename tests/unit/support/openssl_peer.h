#pragma once

/*
 * A TLS connection of which one end is OpenSSL's, and the other was OpenSSL's until its handshake
 * had ended, and is a record layer now; for tests. The bytes are in memory.
 */

#include <openssl/ssl.h>

#include "frontd/codec/tls_record.h"

enum { OPENSSL_SENT_MAX = 16384 };

struct openssl_config {
    bool v13;
    bool client; /* this side is the client, OpenSSL the server */
    enum tls_suite suite;
    unsigned tickets;     /* how many a server sends (1.3) */
    SSL_SESSION *session; /* to be resumed, or NULL; borrowed */
    uint8_t max_fragment; /* TLSEXT_max_fragment_length_… that the client asks for; 0: none */
};

struct openssl_peer {
    SSL *ssl;
    BIO *in;  /* to it */
    BIO *out; /* from it */
    bool resumed;
    struct tls_record record; /* this side's, not proven yet */
    char sent[OPENSSL_SENT_MAX];
    struct span proof; /* in `sent`: the argument of tls_record_prove() */
};

/* Makes both ends, up to where this side takes over. */
void openssl_peer_init(
    struct openssl_peer *peer, struct tls_crypto *crypto, const struct openssl_config *config);
void openssl_peer_deinit(struct openssl_peer *peer, struct tls_crypto *crypto);

/* 1.3 and 1.2, each suite, both roles. */
enum { OPENSSL_CONFIGS = 2 * TLS_SUITES * 2 };
struct openssl_config openssl_config_nth(unsigned i);
