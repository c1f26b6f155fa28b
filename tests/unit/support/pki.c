#include "tests/unit/support/pki.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { RSA_BITS = 2048, DAY = 86400 };

static void add_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* Appends what a BIO has, and frees it. */
static void take_pem(BIO *bio, struct buf *out)
{
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    CHECK(buf_append(out, text, (size_t)n) == 0);
    BIO_free(bio);
}

static void write_pem(struct pki_certificate *certificate, const struct pki_certificate *issuer)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_X509(bio, certificate->x509) == 1);
    take_pem(bio, &certificate->cert_pem);
    bool root = issuer == NULL || X509_NAME_cmp(X509_get_issuer_name(issuer->x509),
                                      X509_get_subject_name(issuer->x509)) == 0;
    if (!root)
        CHECK(buf_append(&certificate->cert_pem, buf_data(&issuer->cert_pem),
                  buf_len(&issuer->cert_pem)) == 0);
    bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_PKCS8PrivateKey(bio, certificate->key, NULL, NULL, 0, NULL, NULL) == 1);
    take_pem(bio, &certificate->key_pem);
}

struct pki_certificate pki_make(enum pki_key kind, const char *name, const char *sans, long from,
    long until, const struct pki_certificate *issuer)
{
    static long serial = 0x1000;
    struct pki_certificate made = {.x509 = X509_new()};
    made.key = kind == PKI_RSA ? EVP_RSA_gen(RSA_BITS) : EVP_EC_gen("P-256");
    CHECK(made.x509 != NULL && made.key != NULL);
    X509_set_version(made.x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.x509), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made.x509), from);
    X509_gmtime_adj(X509_getm_notAfter(made.x509), until);
    X509_NAME *subject = X509_get_subject_name(made.x509);
    X509_NAME_add_entry_by_txt(
        subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509 *from_x509 = issuer == NULL ? made.x509 : issuer->x509;
    X509_set_issuer_name(made.x509, X509_get_subject_name(from_x509));
    X509_set_pubkey(made.x509, made.key);
    add_extension(made.x509, from_x509, NID_basic_constraints,
        sans == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (sans != NULL)
        add_extension(made.x509, from_x509, NID_subject_alt_name, sans);
    CHECK(X509_sign(made.x509, issuer == NULL ? made.key : issuer->key, EVP_sha256()) > 0);
    write_pem(&made, issuer);
    return made;
}

struct pki_certificate pki_make_valid(
    enum pki_key kind, const char *name, const char *sans, const struct pki_certificate *issuer)
{
    return pki_make(kind, name, sans, -DAY, DAY, issuer);
}

void pki_free(struct pki_certificate *certificate)
{
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->key);
    buf_deinit(&certificate->cert_pem);
    buf_deinit(&certificate->key_pem);
    *certificate = (struct pki_certificate){0};
}

struct span pki_cert(const struct pki_certificate *certificate)
{
    return (struct span){buf_data(&certificate->cert_pem), buf_len(&certificate->cert_pem)};
}

struct span pki_key(const struct pki_certificate *certificate)
{
    return (struct span){buf_data(&certificate->key_pem), buf_len(&certificate->key_pem)};
}
