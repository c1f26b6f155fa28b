#pragma once

/*
 * What OpenSSL needs to know for the handshakes of one listener: certificates by SNI, ALPN, client
 * certificates, session tickets, versions and ciphers. Everything that can be negotiated is what
 * codec/tls_record can carry, so every connection can move.
 *
 * - TLS 1.3 and 1.2, the suites of Mozilla's intermediate list: ECDHE with AES-GCM or
 *   ChaCha20-Poly1305.
 * - Not: 0-RTT, renegotiation, compression, sessions kept by the server.
 * - A ticket is good on the listener that it is from, while that asks for client certificates in
 *   the same way: the session id context is a hash of that (SSL_CTX_set_session_id_context(3)).
 */

#include <openssl/ssl.h>

#include "frontd/ipc/tls_material.h"
#include "frontd/ipc/tls_tickets.h"
#include "frontd/shard/tls/tls_names.h"

/* Zeroed: a listener without tls. */
struct tls_context {
    const struct conf_tls *conf;
    bool http;                          /* what is spoken over it */
    const struct tls_ticket_keys *keys; /* borrowed; they change in place. NULL: none */
    SSL_CTX **certificates;             /* one for each, in the order of the config */
    uint32_t count;
    struct tls_names names;
    uint8_t *alpn; /* the protocols, each with its length before it */
    uint32_t alpn_len;
};

/* Called with each message of a handshake, as SSL_CTX_set_msg_callback(3) says. */
typedef void tls_message_fn(
    int written, int version, int content_type, const void *message, size_t n, SSL *ssl, void *arg);

/*
 * Makes it of the material, of which nothing is needed afterwards. conf, keys: borrowed. Returns 0;
 * -EINVAL where a certificate, a key or a CA is not what it should be: the log says which; or
 * -ENOMEM.
 */
int tls_context_init(struct tls_context *context, const struct conf_listener *conf,
    const struct tls_material_listener *material, const struct tls_ticket_keys *keys,
    tls_message_fn *message);

/* Accepts a zeroed one. Handshakes that are under way keep what they need. */
void tls_context_deinit(struct tls_context *context);

/* An SSL object for one handshake on that listener, of the caller's; NULL: there is no memory. */
SSL *tls_context_new_ssl(const struct tls_context *context);
