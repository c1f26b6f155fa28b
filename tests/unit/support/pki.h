#pragma once

/* Certificates, made when a test runs. Everything is CHECKed. */

#include <openssl/x509.h>

#include "common/buf.h"

enum pki_key { PKI_EC, PKI_RSA };

struct pki_certificate {
    X509 *x509;
    EVP_PKEY *key;
    struct buf cert_pem; /* its own, then those of its issuers but for the root */
    struct buf key_pem;
};

/*
 * A certificate that is valid from now + `from` to now + `until` (seconds). sans: as OpenSSL's
 * config has them ("DNS:a.test,DNS:*.b.test"); NULL: it is a CA. issuer: NULL: itself.
 */
struct pki_certificate pki_make(enum pki_key kind, const char *name, const char *sans, long from,
    long until, const struct pki_certificate *issuer);

/* One that is valid now. */
struct pki_certificate pki_make_valid(
    enum pki_key kind, const char *name, const char *sans, const struct pki_certificate *issuer);

void pki_free(struct pki_certificate *certificate);

struct span pki_cert(const struct pki_certificate *certificate);
struct span pki_key(const struct pki_certificate *certificate);
