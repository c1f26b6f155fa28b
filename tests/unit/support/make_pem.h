#pragma once

/* Certificates and keys in PEM, made for a test. */

#include <openssl/x509.h>
#include <time.h>

/* A certificate to be made. */
struct make_pem {
    const char *name;     /* its subject, CN; NULL: "test" */
    const char *san;      /* as in openssl.cnf: "DNS:a.test"; NULL: none */
    EVP_PKEY *key;        /* borrowed */
    X509 *issuer;         /* NULL: itself */
    EVP_PKEY *issuer_key; /* NULL: its own */
    time_t from;
    time_t until;
    const char *digest; /* NULL: SHA-256; "": of the key itself, as Ed25519 has it */
    int authority;      /* it may issue others */
};

X509 *make_pem_certificate(const struct make_pem *make);

/* Each writes one block of PEM to `out`, after what is there already, and a NUL. */
void make_pem_put_certificate(char *out, size_t size, X509 *x509);
void make_pem_put_key(char *out, size_t size, const EVP_PKEY *key);

/* With a passphrase: PKCS#8, or where `traditional` as OpenSSL once wrote it. */
void make_pem_put_encrypted(char *out, size_t size, const EVP_PKEY *key, int traditional);
