#pragma once

/* Certificates that tests make for themselves. */

#include "common/base.h"

enum { CERTIFICATE_TEXT_MAX = 4096 };

/* Texts in PEM, with their lengths. */
struct certificate {
    char cert[CERTIFICATE_TEXT_MAX];
    char key[CERTIFICATE_TEXT_MAX];
    struct span cert_text, key_text;
    void *x509, *pkey; /* X509, EVP_PKEY; NULL once they are freed */
};

/*
 * Makes a certificate with a key of P-256. names: its subjectAltName, as in "DNS:a.test,IP:::1".
 * issuer: who signs it; NULL: itself. It is a CA's where it signs itself. days: how long it is
 * valid from now on; negative: it has expired.
 */
void certificate_make(
    struct certificate *out, const char *names, const struct certificate *issuer, int days);

/* Frees x509 and pkey; the texts stay. */
void certificate_free(struct certificate *certificate);
