#pragma once

/* TLS for the clients of benchmarks: OpenSSL on a socket that does not block. */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * ca: a file with the one certificate that servers may have. h2: they are to speak HTTP/2. Ends the
 * program on failure.
 */
SSL_CTX *tls_client_context(const char *ca, bool h2);

/* A client on that socket, which the caller closes. Freed with SSL_free(). Ends the program on
 * failure. */
SSL *tls_client_new(SSL_CTX *context, int fd);

/* Goes on with the handshake. Returns 1 when it is done, 0 where more has to come, else -1. */
int tls_client_shake_hands(SSL *ssl);

/* As recv(): with errno EAGAIN where more has to come, EPIPE where it has failed. */
ssize_t tls_client_recv(SSL *ssl, void *room, size_t n);

/* Sends all of it, or returns -EPIPE: it is small, and all before it has been read. */
int tls_client_send(SSL *ssl, const void *p, size_t n);
