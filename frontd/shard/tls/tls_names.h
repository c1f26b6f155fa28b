#pragma once

/*
 * Which certificate of a listener a client is shown, by the name that it asks for (SNI, RFC 6066
 * section 3): the names are those of the certificates' subjectAltName, exact ones and wildcards.
 */

#include <openssl/x509.h>

#include "common/base.h"

struct tls_name {
    char *text;           /* lower case; of a wildcard what follows "*" */
    uint32_t certificate; /* its index */
};

/* Zeroed: none. */
struct tls_names {
    struct tls_name *items;
    uint32_t count;
    uint32_t room;
};

/* Adds the DNS names of a certificate with that index. Returns 0 or -ENOMEM. */
int tls_names_add(struct tls_names *names, const X509 *certificate, uint32_t index);

/*
 * The certificate with that name: with the exact one, else with a wildcard, which stands for one
 * label (RFC 6125 section 6.4.3); of several the first. 0, the default, where there is none. name:
 * as the client has sent it; NULL: it has sent none.
 */
uint32_t tls_names_find(const struct tls_names *names, const char *name);

void tls_names_deinit(struct tls_names *names);
