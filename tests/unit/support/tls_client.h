#pragma once

/* Shards with TLS, and a TLS client of theirs: OpenSSL on a socket pair. Everything is CHECKed. */

#include <openssl/ssl.h>

#include "tests/unit/support/pki.h"
#include "tests/unit/support/shardlet.h"

/* What the listeners of a shardlet serve with, for as long as it is there. */
struct tls_setup {
    const struct pki_certificate *certificates; /* the first is the default */
    uint32_t ncertificates;
    const struct pki_certificate *client_ca; /* NULL: none */
    enum conf_client_auth client_auth;
    enum conf_tls_version min_version;
    const char *alpn[2]; /* NULL: no more */
    uint64_t tickets;    /* ms; 0: none */
    struct tls_ticket_keys *keys;
};

/* Gives all listeners of a shardlet tls; undone by shardlet_deinit(). */
void tls_client_set_up(struct shardlet *shardlet, const struct tls_setup *setup);

struct tls_client {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in; /* ssl's */
    BIO *out;
    int fd;
    struct client *client; /* of the shard; valid until it is closed or has moved */
};

/* What a client does in another way than others; zeroed: nothing. */
struct tls_wish {
    int version;        /* TLS1_2_VERSION or TLS1_3_VERSION, 0: any */
    const char *cipher; /* the one cipher that it offers, as OpenSSL names it */
    const char *name;   /* SNI */
    const char *alpn;   /* each protocol with its length before it */
    const struct pki_certificate *certificate;
    const struct pki_certificate *trusts; /* NULL: it does not look */
    SSL_SESSION *session;                 /* to resume */
    int fragment;                         /* TLSEXT_max_fragment_length_*, 0: none */
};

/* Connects; nothing has been sent yet. */
struct tls_client tls_client_open(
    struct shardlet *shardlet, const char *listener, const struct tls_wish *wish);

/*
 * Takes steps of the handshake, and of the shard, until it has ended on this side. Returns whether
 * it has succeeded.
 */
bool tls_client_shake(struct tls_client *client, struct shardlet *shardlet);

/* Both; then the shard has turns until it has ended on its side, too. */
struct tls_client tls_client_connect(
    struct shardlet *shardlet, const char *listener, const struct tls_wish *wish);

/* Seals the text; what is to be sent waits for tls_client_send(). */
void tls_client_seal(struct tls_client *client, struct span text);

/* Sends up to `n` bytes of what waits; SIZE_MAX: all. Returns whether that was something. */
bool tls_client_send(struct tls_client *client, size_t n);

/* Seals and sends. */
void tls_client_say(struct tls_client *client, struct span text);

/*
 * Appends what has come at `out` + *n, in a buffer of `size` bytes. Returns the last result of
 * SSL_get_error().
 */
int tls_client_hear(struct tls_client *client, char *out, size_t size, size_t *n);

/*
 * Gives the shard turns, and appends what comes at `out` + *n, in a buffer of `size` bytes.
 * Returns the last result of SSL_get_error().
 */
int tls_client_listen(
    struct tls_client *client, struct shardlet *shardlet, char *out, size_t size, size_t *n);

/* The number of the alert by which the shard has ended it, by OpenSSL's last error; 0: none. */
int tls_client_alert(void);

void tls_client_close(struct tls_client *client);
