#pragma once

/* Why the TLS of a connection has ended it, as the log tells it. */

#include <openssl/ssl.h>

#include "common/base.h"

enum tls_failure_kind {
    TLS_FAILURE_NOT_TLS,     /* what has come is no TLS: HTTP, say */
    TLS_FAILURE_NOT_SHARED,  /* no version, cipher, group or protocol (ALPN) that both sides know */
    TLS_FAILURE_CERTIFICATE, /* the client has none that is wanted */
    TLS_FAILURE_ALERT,       /* the client has given up: it does not like our certificate, say */
    TLS_FAILURE_HANDSHAKE,   /* the client's handshake breaks the protocol */
    TLS_FAILURE_SILENT,      /* it does not come on, and others wait for its place */
    TLS_FAILURE_RECORD,      /* the same after the handshake */
    TLS_FAILURE_INTERNAL,    /* memory, or what is not known here of OpenSSL */
};

struct tls_failure {
    enum tls_failure_kind kind;
    const char *text; /* static */
};

/*
 * Why SSL_accept() has failed: by the errors that OpenSSL has noted in this thread, which are
 * forgotten.
 */
struct tls_failure tls_failure_of(const SSL *ssl);
