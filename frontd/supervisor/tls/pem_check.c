#include "frontd/supervisor/tls/pem_check.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <string.h>

enum {
    DAY = 24 * 3600,   /* s */
    EXPIRES_SOON = 14, /* days */
    RSA_BITS = 2048,
    SECURITY_BITS = 112, /* those of RSA 2048; what TLS libraries ask for by default */
    CHAIN_MAX = 16,      /* certificates; clients follow fewer */
    AUTHORITIES_MAX = 4096,
};

__attribute__((format(printf, 2, 3))) static void warn(
    const struct conf_findings *findings, const char *format, ...)
{
    char text[256];
    va_list args;
    if (findings == NULL || findings->odd == NULL)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    findings->odd(findings->data, text);
}

void pem_write_date(time_t time, char out[static PEM_DATE_SIZE])
{
    struct tm tm;
    if (gmtime_r(&time, &tm) == NULL || strftime(out, PEM_DATE_SIZE, "%Y-%m-%d", &tm) == 0)
        snprintf(out, PEM_DATE_SIZE, "?");
}

/* What was wrong; where libcrypto had no memory for something, that. Its errors are forgotten. */
static const char *why(const char *wrong)
{
    bool no_memory = false;
    for (unsigned long error; (error = ERR_get_error()) != 0;)
        no_memory |= ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE;
    return wrong != NULL && no_memory ? "no memory" : wrong;
}

static BIO *open_text(struct span text)
{
    return text.n > INT32_MAX ? NULL : BIO_new_mem_buf(text.p, (int)text.n);
}

/* A passphrase is asked for: the key is encrypted. None is given, and no terminal is used. */
static int on_passphrase(char *out, int size, int writes, void *data)
{
    (void)out;
    (void)size;
    (void)writes;
    bool *asked = data;
    *asked = true;
    return -1;
}

/* Reads all certificates of a text. Returns NULL, or what is wrong; at most `max`. */
static const char *read_certificates(struct span text, int max, STACK_OF(X509) * all)
{
    BIO *bio = open_text(text);
    bool asked = false;
    const char *wrong = bio == NULL ? "no memory" : NULL;
    while (wrong == NULL) {
        X509 *one = PEM_read_bio_X509_AUX(bio, NULL, on_passphrase, &asked);
        if (one == NULL)
            break;
        if (sk_X509_num(all) == max)
            wrong = "too many certificates";
        else if (sk_X509_push(all, one) <= 0)
            wrong = "no memory";
        if (wrong != NULL)
            X509_free(one);
    }
    BIO_free(bio);
    unsigned long error = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (wrong == NULL && !at_end)
        return "a certificate in it cannot be read";
    if (wrong == NULL && sk_X509_num(all) == 0)
        return "no certificate in PEM is in it";
    return wrong;
}

/* Reads a date; false where it is none. */
static bool read_time(const ASN1_TIME *time, time_t *ret_time)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret_time = timegm(&tm);
    return true;
}

static const char *check_dates(const X509 *x509, const char *which, time_t now,
    const struct conf_findings *findings, time_t *until)
{
    char date[PEM_DATE_SIZE];
    time_t from;
    time_t to;
    if (!read_time(X509_get0_notBefore(x509), &from) || !read_time(X509_get0_notAfter(x509), &to))
        return "the dates of a certificate cannot be read";
    *until = MIN(*until, to);
    pem_write_date(to < now ? to : from, date);
    if (to < now)
        warn(findings, "%s has expired on %s", which, date);
    else if (from > now)
        warn(findings, "%s is not valid before %s", which, date);
    else if (to - now < (time_t)EXPIRES_SOON * DAY)
        warn(findings, "%s expires in %d days", which, (int)((to - now) / DAY));
    return NULL;
}

/* Clients look at these names alone (RFC 9525 section 2). */
static void check_names(const X509 *x509, const struct conf_findings *findings)
{
    if (X509_get_ext_by_NID(x509, NID_subject_alt_name, -1) < 0)
        warn(findings, "the certificate has no subjectAltName: no client accepts it for a name");
}

static bool is_curve_of_tls(const EVP_PKEY *key)
{
    static const int curves[] = {NID_X9_62_prime256v1, NID_secp384r1, NID_secp521r1};
    char name[64];
    if (EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, name, sizeof(name), NULL) !=
        1)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(curves); i++) {
        if (OBJ_sn2nid(name) == curves[i])
            return true;
    }
    return false;
}

/* Kinds that can sign a handshake with ECDHE (RFC 8446 section 4.2.3). */
static const char *check_kind(const EVP_PKEY *key)
{
    bool rsa = EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS");
    bool ec = EVP_PKEY_is_a(key, "EC");
    if (!rsa && !ec && !EVP_PKEY_is_a(key, "ED25519") && !EVP_PKEY_is_a(key, "ED448"))
        return "a key is of RSA, EC, Ed25519 or Ed448";
    if (EVP_PKEY_get_security_bits(key) < SECURITY_BITS ||
        (rsa && EVP_PKEY_get_bits(key) < RSA_BITS)) /* of 2040 libcrypto says the same strength */
        return "the key is too weak: RSA has at least 2048 bits";
    if (ec && !is_curve_of_tls(key))
        return "a key of EC is of P-256, P-384 or P-521";
    return NULL;
}

/* The signature of one that is its own authority proves nothing, so that it is not looked at. */
static bool is_signed_weakly(X509 *x509)
{
    int bits = 0;
    bool itself = (X509_get_extension_flags(x509) & EXFLAG_SS) != 0;
    return !itself && X509_get_signature_info(x509, NULL, NULL, &bits, NULL) == 1 &&
           bits < SECURITY_BITS;
}

static const char *check_chain(
    STACK_OF(X509) * chain, time_t now, const struct conf_findings *findings, time_t *until)
{
    const char *wrong = NULL;
    bool in_order = true;
    for (int i = 0; wrong == NULL && i < sk_X509_num(chain); i++) {
        X509 *x509 = sk_X509_value(chain, i);
        char which[48] = "the certificate";
        if (i > 0)
            snprintf(which, sizeof(which), "certificate %d of the chain", i + 1);
        wrong = check_dates(x509, which, now, findings, until);
        if (wrong == NULL && is_signed_weakly(x509))
            wrong = "a certificate is signed in a way that is too weak, such as with SHA-1";
        if (i > 0 && X509_check_issued(x509, sk_X509_value(chain, i - 1)) != X509_V_OK)
            in_order = false;
    }
    if (!in_order)
        warn(findings, "a certificate of the chain was not issued by the one that follows it: "
                       "clients may not find their way to its root");
    return wrong;
}

static const char *check_first(X509 *first, const struct conf_findings *findings)
{
    const EVP_PKEY *key = X509_get0_pubkey(first);
    const char *wrong = key == NULL
                            ? "the certificate's key cannot be read, or there is no memory for it"
                            : check_kind(key);
    if (wrong == NULL)
        check_names(first, findings);
    return wrong;
}

static const char *check_key(X509 *first, struct span text)
{
    bool asked = false;
    BIO *bio = open_text(text);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asked);
    BIO_free(bio);
    const char *wrong = NULL;
    if (key == NULL && asked)
        wrong = "the key is encrypted: write it without a passphrase, since none can be asked for";
    else if (key == NULL)
        wrong = "no private key in PEM is in it";
    else if (X509_check_private_key(first, key) != 1)
        wrong = "the key does not belong to the certificate";
    EVP_PKEY_free(key); /* which overwrites it */
    return wrong;
}

static void free_certificates(STACK_OF(X509) * all)
{
    sk_X509_pop_free(all, X509_free);
}

const char *pem_check_pair(struct span cert, struct span key, time_t now,
    const struct conf_findings *findings, time_t *ret_until, enum pem_part *ret_part)
{
    time_t until = (time_t)(UINT64_MAX >> 2);
    *ret_part = PEM_CERT;
    STACK_OF(X509) *chain = sk_X509_new_null();
    if (chain == NULL)
        return "no memory";
    const char *wrong = read_certificates(cert, CHAIN_MAX, chain);
    if (wrong == NULL)
        wrong = check_first(sk_X509_value(chain, 0), findings);
    if (wrong == NULL)
        wrong = check_chain(chain, now, findings, &until);
    if (wrong == NULL) {
        *ret_part = PEM_KEY;
        wrong = check_key(sk_X509_value(chain, 0), key);
    }
    free_certificates(chain);
    if (wrong == NULL)
        *ret_until = until;
    return why(wrong);
}

const char *pem_check_authorities(
    struct span text, time_t now, const struct conf_findings *findings)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    if (all == NULL)
        return "no memory";
    const char *wrong = read_certificates(text, AUTHORITIES_MAX, all);
    int expired = 0;
    for (int i = 0; wrong == NULL && i < sk_X509_num(all); i++) {
        time_t to;
        if (!read_time(X509_get0_notAfter(sk_X509_value(all, i)), &to))
            wrong = "the dates of a certificate cannot be read";
        else
            expired += to < now;
    }
    if (wrong == NULL && expired > 0)
        warn(findings, "%d of its %d certificates have expired", expired, sk_X509_num(all));
    free_certificates(all);
    return why(wrong);
}
