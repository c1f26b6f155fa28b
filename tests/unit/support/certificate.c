#include "tests/unit/support/certificate.h"

#include <criterion/criterion.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { DAY = 24 * 3600 };

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    cr_assert_not_null(extension, "%s", value);
    cr_assert_eq(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static struct span text_of(BIO *bio, char *out)
{
    int n = BIO_read(bio, out, CERTIFICATE_TEXT_MAX - 1);
    cr_assert(n > 0 && n < CERTIFICATE_TEXT_MAX - 1);
    out[n] = '\0';
    BIO_free(bio);
    return (struct span){out, (size_t)n};
}

void certificate_make(
    struct certificate *out, const char *names, const struct certificate *issuer, int days)
{
    static long serial;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    cr_assert(key != NULL && cert != NULL);
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -2 * DAY);
    X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * DAY);
    X509_set_pubkey(cert, key);
    X509_NAME *subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(
        subject, "CN", MBSTRING_ASC, (const unsigned char *)names, -1, -1, 0);
    X509 *by = issuer == NULL ? cert : issuer->x509;
    X509_set_issuer_name(cert, X509_get_subject_name(by));
    add_extension(
        cert, by, NID_basic_constraints, issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    add_extension(cert, by, NID_subject_alt_name, names);
    cr_assert_gt(X509_sign(cert, issuer == NULL ? key : issuer->pkey, EVP_sha256()), 0);

    BIO *bio = BIO_new(BIO_s_mem());
    cr_assert_eq(PEM_write_bio_X509(bio, cert), 1);
    out->cert_text = text_of(bio, out->cert);
    bio = BIO_new(BIO_s_mem());
    cr_assert_eq(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    out->key_text = text_of(bio, out->key);
    out->x509 = cert;
    out->pkey = key;
}

void certificate_free(struct certificate *certificate)
{
    X509_free(certificate->x509);
    EVP_PKEY_free(certificate->pkey);
    certificate->x509 = certificate->pkey = NULL;
}
