#include <criterion/criterion.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#include "frontd/supervisor/tls/pem_check.h"
#include "tests/unit/support/make_pem.h"
#include "tests/unit/support/said.h"

enum { DAY = 24 * 3600, TEXT = 64 * 1024 };

static const time_t NOW = 1800000000; /* 2027-01-15 08:00 UTC */
static EVP_PKEY *key;
static char cert[TEXT];
static char text[TEXT];

static void set_up(void)
{
    key = EVP_EC_gen("P-256");
    cr_assert_not_null(key);
}

static void tear_down(void)
{
    EVP_PKEY_free(key);
}

TestSuite(pem, .init = set_up, .fini = tear_down);

static void on_odd(void *data, const char *what)
{
    cr_assert_eq(data, text);
    say("%s\n", what);
}

static const struct conf_findings findings = {.odd = on_odd, .data = text};

/* A certificate that is right in all. */
static struct make_pem good(void)
{
    return (struct make_pem){
        .san = "DNS:a.test", .key = key, .from = NOW - DAY, .until = NOW + (time_t)90 * DAY};
}

static struct span span_of(const char *pem)
{
    return (struct span){pem, strlen(pem)};
}

/* Appends a certificate to `cert`. */
static void put(const struct make_pem *make)
{
    X509 *x509 = make_pem_certificate(make);
    make_pem_put_certificate(cert, sizeof(cert), x509);
    X509_free(x509);
}

/* Checks `cert` with `text`, the key. wrong: NULL: nothing is. */
static time_t check(const char *wrong, enum pem_part where)
{
    enum pem_part part = PEM_CERT;
    time_t until = 0;
    const char *is = pem_check_pair(span_of(cert), span_of(text), NOW, &findings, &until, &part);
    if (wrong == NULL) {
        cr_expect_null(is, "%s", is);
    } else {
        cr_assert_not_null(is, "should be: %s", wrong);
        cr_expect_str_eq(is, wrong);
        cr_expect_eq(part, where);
    }
    return until;
}

/* Of one certificate with its key. */
static time_t check_one(const struct make_pem *make, const char *wrong)
{
    cert[0] = text[0] = '\0';
    put(make);
    make_pem_put_key(text, sizeof(text), make->key);
    return check(wrong, PEM_CERT);
}

Test(pem, one_that_is_right)
{
    struct make_pem make = good();
    cr_expect_eq(check_one(&make, NULL), make.until);
    expect_said("");
}

Test(pem, without_findings)
{
    enum pem_part part;
    time_t until;
    struct make_pem make = good();
    make.until = NOW - 1;
    put(&make);
    make_pem_put_key(text, sizeof(text), key);
    cr_expect_null(pem_check_pair(span_of(cert), span_of(text), NOW, NULL, &until, &part));
}

Test(pem, dates)
{
    static const struct {
        time_t from;
        time_t until;
        const char *said;
    } rows[] = {
        {-DAY, 14 * DAY, ""},
        {-DAY, 14 * DAY - 1, "the certificate expires in 13 days\n"},
        {-DAY, 0, "the certificate expires in 0 days\n"},
        {-DAY, -1, "the certificate has expired on 2027-01-15\n"},
        {-9 * DAY, -2 * DAY, "the certificate has expired on 2027-01-13\n"},
        {0, 90 * DAY, ""},
        {1, 90 * DAY, "the certificate is not valid before 2027-01-15\n"},
        {DAY, 5 * DAY, "the certificate is not valid before 2027-01-16\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct make_pem make = good();
        make.from = NOW + rows[i].from;
        make.until = NOW + rows[i].until;
        cr_expect_eq(check_one(&make, NULL), make.until);
        expect_said(rows[i].said);
    }
}

Test(pem, without_names)
{
    struct make_pem make = good();
    make.san = NULL;
    check_one(&make, NULL);
    expect_said("the certificate has no subjectAltName: no client accepts it for a name\n");
}

/* With a key of its own; wrong: NULL: it is right. */
static void check_kind(EVP_PKEY *other, const char *digest, const char *wrong)
{
    struct make_pem make = good();
    cr_assert_not_null(other);
    make.key = other;
    make.digest = digest;
    check_one(&make, wrong);
    expect_said("");
    EVP_PKEY_free(other);
}

Test(pem, kinds_of_keys)
{
    static const char weak[] = "the key is too weak: RSA has at least 2048 bits";
    static const char curve[] = "a key of EC is of P-256, P-384 or P-521";
    check_kind(EVP_RSA_gen(2048), NULL, NULL);
    check_kind(EVP_RSA_gen(2047), NULL, weak);
    check_kind(EVP_RSA_gen(1024), NULL, weak);
    check_kind(EVP_EC_gen("P-384"), NULL, NULL);
    check_kind(EVP_EC_gen("P-521"), NULL, NULL);
    check_kind(EVP_EC_gen("P-192"), NULL, weak);
    check_kind(EVP_EC_gen("P-224"), NULL, curve);
    check_kind(EVP_EC_gen("secp256k1"), NULL, curve);
    check_kind(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), "", NULL);
    check_kind(EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), "", NULL);
    check_kind(
        EVP_PKEY_Q_keygen(NULL, NULL, "SM2"), "SM3", "a key is of RSA, EC, Ed25519 or Ed448");
}

Test(pem, keys)
{
    static const char encrypted[] =
        "the key is encrypted: write it without a passphrase, since none can be asked for";
    static const char none[] = "no private key in PEM is in it";
    struct make_pem make = good();
    EVP_PKEY *other = EVP_EC_gen("P-256");
    put(&make);
    make_pem_put_key(text, sizeof(text), other);
    check("the key does not belong to the certificate", PEM_KEY);
    EVP_PKEY_free(other);
    other = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    text[0] = '\0';
    make_pem_put_key(text, sizeof(text), other);
    check("the key does not belong to the certificate", PEM_KEY);
    EVP_PKEY_free(other);
    text[0] = '\0';
    make_pem_put_encrypted(text, sizeof(text), key, 0);
    check(encrypted, PEM_KEY);
    text[0] = '\0';
    make_pem_put_encrypted(text, sizeof(text), key, 1);
    check(encrypted, PEM_KEY);
    text[0] = '\0';
    check(none, PEM_KEY);
    strcpy(text, cert);
    check(none, PEM_KEY);
    strcpy(text, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    check(none, PEM_KEY);
    /* In one file with the chain, as some write it. */
    strcpy(text, cert);
    make_pem_put_key(text, sizeof(text), key);
    strcpy(cert, text);
    check(NULL, PEM_KEY);
    expect_said("");
}

Test(pem, certificates_that_cannot_be_read)
{
    static const char broken[] = "a certificate in it cannot be read";
    struct make_pem make = good();
    make_pem_put_key(text, sizeof(text), key);
    check("no certificate in PEM is in it", PEM_CERT);
    make_pem_put_key(cert, sizeof(cert), key);
    check("no certificate in PEM is in it", PEM_CERT);
    cert[0] = '\0';
    put(&make);
    size_t n = strlen(cert);
    strcpy(cert + n, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    check(broken, PEM_CERT);
    cert[n / 2] = '\0';
    check(broken, PEM_CERT);
    cert[0] = '\0';
    put(&make);
    for (char *p = cert + 40; *p != '\0'; p += 64)
        *p = *p == 'A' ? 'B' : 'A';
    enum pem_part part;
    time_t until;
    cr_expect_not_null(pem_check_pair(span_of(cert), span_of(text), NOW, &findings, &until, &part));
}

/* A root and one that it has issued, both right; the caller's. */
static struct make_pem make_chain(X509 **ret_root, EVP_PKEY **ret_root_key)
{
    *ret_root_key = EVP_EC_gen("P-256");
    struct make_pem root = good();
    root.name = "root";
    root.key = *ret_root_key;
    root.san = NULL;
    root.authority = 1;
    *ret_root = make_pem_certificate(&root);
    struct make_pem leaf = good();
    leaf.issuer = *ret_root;
    leaf.issuer_key = *ret_root_key;
    return leaf;
}

Test(pem, chains)
{
    X509 *root;
    EVP_PKEY *root_key;
    struct make_pem leaf = make_chain(&root, &root_key);
    make_pem_put_key(text, sizeof(text), key);
    put(&leaf);
    make_pem_put_certificate(cert, sizeof(cert), root);
    check(NULL, PEM_CERT);
    expect_said("");
    struct make_pem other = good();
    other.name = "other";
    put(&other);
    check(NULL, PEM_CERT);
    expect_said("a certificate of the chain was not issued by the one that follows it: clients may "
                "not find their way to its root\n");
    /* The first has to be the server's own. */
    cert[0] = '\0';
    make_pem_put_certificate(cert, sizeof(cert), root);
    put(&leaf);
    check("the key does not belong to the certificate", PEM_KEY);
    said[0] = '\0';
    X509_free(root);
    EVP_PKEY_free(root_key);
}

Test(pem, a_chain_that_ends_before_its_first)
{
    X509 *root;
    EVP_PKEY *root_key;
    struct make_pem leaf = make_chain(&root, &root_key);
    struct make_pem again = {.name = "root",
        .key = root_key,
        .from = NOW - DAY,
        .until = NOW + (time_t)3 * DAY,
        .authority = 1};
    make_pem_put_key(text, sizeof(text), key);
    put(&leaf);
    put(&again);
    cr_expect_eq(check(NULL, PEM_CERT), again.until);
    expect_said("certificate 2 of the chain expires in 3 days\n");
    X509_free(root);
    EVP_PKEY_free(root_key);
}

Test(pem, weak_signatures)
{
    static const char weak[] =
        "a certificate is signed in a way that is too weak, such as with SHA-1";
    X509 *root;
    EVP_PKEY *root_key;
    struct make_pem leaf = make_chain(&root, &root_key);
    leaf.digest = "SHA1";
    check_one(&leaf, weak);
    leaf.digest = "SHA224";
    check_one(&leaf, NULL);
    struct make_pem itself = good();
    itself.digest = "SHA1"; /* which proves nothing anyway */
    check_one(&itself, NULL);
    X509_free(root);
    EVP_PKEY_free(root_key);
}

Test(pem, as_many_certificates_as_are_read_and_one_more)
{
    struct make_pem make = good();
    X509 *x509 = make_pem_certificate(&make);
    make_pem_put_key(text, sizeof(text), key);
    for (int i = 0; i < 16; i++)
        make_pem_put_certificate(cert, sizeof(cert), x509);
    check(NULL, PEM_CERT);
    make_pem_put_certificate(cert, sizeof(cert), x509);
    check("too many certificates", PEM_CERT);
    X509_free(x509);
}

Test(pem, authorities)
{
    struct make_pem make = good();
    cr_expect_str_eq(
        pem_check_authorities(span_of(""), NOW, &findings), "no certificate in PEM is in it");
    put(&make);
    make.san = NULL;
    put(&make);
    cr_expect_null(pem_check_authorities(span_of(cert), NOW, &findings));
    expect_said("");
    make.until = NOW - 1;
    put(&make);
    cr_expect_null(pem_check_authorities(span_of(cert), NOW, &findings));
    expect_said("1 of its 3 certificates have expired\n");
    cert[strlen(cert) / 2] = '\0';
    cr_expect_str_eq(
        pem_check_authorities(span_of(cert), NOW, &findings), "a certificate in it cannot be read");
}

Test(pem, a_date)
{
    char date[PEM_DATE_SIZE];
    pem_write_date(NOW, date);
    cr_expect_str_eq(date, "2027-01-15");
    pem_write_date((time_t)INT64_MAX, date);
    cr_expect_str_eq(date, "?");
}
