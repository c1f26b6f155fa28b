#include "tests/unit/support/make_pem.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "common/base.h"

static void add_extension(X509 *x509, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    CHECK(extension != NULL && X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

X509 *make_pem_certificate(const struct make_pem *make)
{
    static long serial;
    X509 *x509 = X509_new();
    CHECK(x509 != NULL && X509_set_version(x509, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), ++serial);
    X509_NAME *name = X509_NAME_new();
    const char *text = make->name == NULL ? "test" : make->name;
    CHECK(X509_NAME_add_entry_by_txt(
              name, "CN", MBSTRING_ASC, (const unsigned char *)text, -1, -1, 0) == 1);
    X509_set_subject_name(x509, name);
    X509_set_issuer_name(x509, make->issuer == NULL ? name : X509_get_subject_name(make->issuer));
    X509_NAME_free(name);
    ASN1_TIME_set(X509_getm_notBefore(x509), make->from);
    ASN1_TIME_set(X509_getm_notAfter(x509), make->until);
    CHECK(X509_set_pubkey(x509, make->key) == 1);
    if (make->san != NULL)
        add_extension(x509, NID_subject_alt_name, make->san);
    if (make->authority)
        add_extension(x509, NID_basic_constraints, "critical,CA:TRUE");
    const char *digest = make->digest == NULL ? "SHA256" : make->digest;
    const EVP_MD *md = digest[0] == '\0' ? NULL : EVP_get_digestbyname(digest);
    CHECK(X509_sign(x509, make->issuer_key == NULL ? make->key : make->issuer_key, md) > 0);
    return x509;
}

/* Appends what the BIO has. bio: consumed. */
static void put(char *out, size_t size, BIO *bio)
{
    size_t at = strlen(out);
    int n = BIO_read(bio, out + at, (int)(size - at - 1));
    CHECK(n > 0 && at + (size_t)n < size - 1);
    out[at + (size_t)n] = '\0';
    BIO_free(bio);
}

void make_pem_put_certificate(char *out, size_t size, X509 *x509)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_X509(bio, x509) == 1);
    put(out, size, bio);
}

void make_pem_put_key(char *out, size_t size, const EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    put(out, size, bio);
}

void make_pem_put_encrypted(char *out, size_t size, const EVP_PKEY *key, int traditional)
{
    static const unsigned char word[] = "secret";
    BIO *bio = BIO_new(BIO_s_mem());
    const EVP_CIPHER *cipher = EVP_aes_128_cbc();
    int n = sizeof(word) - 1;
    CHECK((traditional ? PEM_write_bio_PrivateKey_traditional(bio, key, cipher, word, n, NULL, NULL)
                       : PEM_write_bio_PKCS8PrivateKey(
                             bio, key, cipher, (const char *)word, n, NULL, NULL)) == 1);
    put(out, size, bio);
}
