#pragma once

/* What a peer may do after the handshake, and what it may not: with which alert that is answered.
 */

#include "common/base.h"
#include "frontd/codec/tls_alert.h"

enum {
    TLS_V13 = 1,
    TLS_V12 = 2,
    TLS_SERVER = 4, /* this side is the server */
    TLS_CLIENT = 8,
    TLS_ROLES = TLS_SERVER | TLS_CLIENT,
    TLS_ANY = TLS_V13 | TLS_V12 | TLS_ROLES,
    TLS_FINE = 256,     /* instead of an alert: the connection goes on */
    TLS_ENDS = 257,     /* instead of an alert: the peer has closed */
    TLS_RECEIVED = 512, /* added to an alert: it is the peer's */
};

struct tls_violation {
    const char *what;
    unsigned where; /* in which versions and roles */
    unsigned outcome;
    unsigned openssl; /* the outcome with OpenSSL 3.0 where that is another one, else 0 */
    struct tls_part {
        uint8_t type;
        const char *content;
        size_t n;
        size_t padding;
    } parts[4]; /* each is a record; up to one with type 0 */
};

#define TLS_PART(type, literal)                                                                    \
    {                                                                                              \
        type, literal, sizeof(literal) - 1, 0                                                      \
    }

extern const struct tls_violation tls_violations[];
extern const size_t tls_violations_n;
