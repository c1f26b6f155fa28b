#include "frontd/shard/net/stream_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/log.h"

/* The suites that listeners have: ECDHE and an AEAD. TLS 1.3 has no others. */
#define SUITES "ECDHE+AESGCM:ECDHE+CHACHA20"

static BIO *bio_of(struct span text)
{
    return text.n > INT_MAX ? NULL : BIO_new_mem_buf(text.p, (int)text.n);
}

/* A key that is encrypted is an error: nothing is asked at a terminal. */
static int no_password(char *out, int size, int rwflag, void *data)
{
    (void)out, (void)size, (void)rwflag, (void)data;
    return -1;
}

/* The certificates of `text`, each given to `add`. Returns how many; -1 where one is wrong. */
static int each_certificate(struct span text, int (*add)(SSL_CTX *, X509 *, int), SSL_CTX *context)
{
    BIO *bio = bio_of(text);
    X509 *one;
    int n = 0;
    if (bio == NULL)
        return -1;
    while (n >= 0 && (one = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
        n = add(context, one, n) == 1 ? n + 1 : -1;
        X509_free(one);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        n = -1; /* else it is the end of the text */
    ERR_clear_error();
    BIO_free(bio);
    return n;
}

static int add_ca(SSL_CTX *context, X509 *one, int n)
{
    (void)n;
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(context), one);
}

static int add_own(SSL_CTX *context, X509 *one, int n)
{
    return n == 0 ? SSL_CTX_use_certificate(context, one)
                  : (int)SSL_CTX_add1_chain_cert(context, one);
}

static bool use_key(SSL_CTX *context, struct span text)
{
    BIO *bio = bio_of(text);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    bool good = key != NULL && SSL_CTX_use_PrivateKey(context, key) == 1 &&
                SSL_CTX_check_private_key(context) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return good;
}

static bool fill(SSL_CTX *context, struct span ca, struct span cert, struct span key)
{
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context, SUITES) == 1 &&
           each_certificate(ca, add_ca, context) > 0 &&
           (cert.n == 0 || (each_certificate(cert, add_own, context) > 0 && use_key(context, key)));
}

int stream_tls_context(struct span ca, struct span cert, struct span key, struct ssl_ctx_st **ret)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        return -ENOMEM;
    bool good = fill(context, ca, cert, key);
    ERR_clear_error();
    if (!good) {
        SSL_CTX_free(context);
        return -EINVAL;
    }
    *ret = context;
    return 0;
}

struct ssl_ctx_st *stream_tls_context_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
    return NULL;
}

/* Has the peer's certificate compared with a name or an address. Only names are sent (RFC 6066). */
static bool set_name(SSL *tls, const char *name)
{
    uint8_t address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), name) == 1;
    SSL_set_hostflags(tls, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(tls, name) == 1 && SSL_set1_host(tls, name) == 1;
}

struct ssl_st *stream_tls_new(struct ssl_ctx_st *context, int fd, const char *name)
{
    SSL *tls = SSL_new(context);
    if (tls == NULL || SSL_set_fd(tls, fd) != 1 || !set_name(tls, name)) {
        ERR_clear_error();
        return stream_tls_free(tls);
    }
    SSL_set_connect_state(tls);
    return tls;
}

struct ssl_st *stream_tls_free(struct ssl_st *tls)
{
    SSL_free(tls); /* the socket is its BIO's, which does not close it */
    return NULL;
}

/* What has failed: -EAGAIN, -EPROTO, -ECONNRESET or -errno; 0: the peer has said that it ends. */
static int error_of(SSL *tls, int r)
{
    int saved = errno;
    switch (SSL_get_error(tls, r)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL: return saved == 0 ? -ECONNRESET : -saved;
    default: break;
    }
    unsigned long error = ERR_peek_error();
    if (ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return -ECONNRESET;
    SSL_set_app_data(tls, (void *)(uintptr_t)ERR_reason_error_string(error)); /* a static text */
    return -EPROTO;
}

const char *stream_tls_error_text(const struct ssl_st *tls, int error)
{
    const char *reason = tls == NULL || error != -EPROTO ? NULL : SSL_get_app_data(tls);
    return reason == NULL ? log_error_text(error) : reason;
}

int stream_tls_connect(struct ssl_st *tls, const char **ret_why)
{
    errno = 0;
    int r = SSL_do_handshake(tls);
    if (r == 1)
        return 0;
    int error = error_of(tls, r);
    if (error == 0)
        error = -ECONNRESET;
    if (error == -EAGAIN)
        return error;
    long verified = SSL_get_verify_result(tls);
    if (verified != X509_V_OK)
        *ret_why = X509_verify_cert_error_string(verified);
    else if (error == -ECONNRESET)
        *ret_why = "the peer closed it in the TLS handshake";
    else
        *ret_why = stream_tls_error_text(tls, error);
    ERR_clear_error();
    return error;
}

bool stream_tls_wants_room(const struct ssl_st *tls)
{
    return SSL_want_write(tls);
}

ssize_t stream_tls_read(struct ssl_st *tls, char *room, size_t n)
{
    size_t used = 0;
    int r = 1;
    errno = 0;
    while (n - used >= STREAM_TLS_ROOM && r > 0) {
        r = SSL_read(tls, room + used, (int)MIN(n - used, (size_t)INT_MAX));
        if (r > 0)
            used += (size_t)r;
    }
    int error = r > 0 ? 0 : error_of(tls, r);
    ERR_clear_error();
    errno = error == -EAGAIN && used > 0 ? 0 : -error;
    if (used > 0)
        return (ssize_t)used;
    return error == 0 ? 0 : -1;
}

ssize_t stream_tls_write(struct ssl_st *tls, const char *p, size_t n)
{
    size_t used = 0;
    int r = 1;
    errno = 0;
    while (used < n && r > 0) {
        r = SSL_write(tls, p + used, (int)MIN(n - used, (size_t)INT_MAX));
        if (r > 0)
            used += (size_t)r;
    }
    if (used > 0)
        return (ssize_t)used;
    int error = error_of(tls, r);
    ERR_clear_error();
    errno = error == 0 ? EPIPE : -error;
    return -1;
}

void stream_tls_shut(struct ssl_st *tls)
{
    (void)SSL_shutdown(tls);
    ERR_clear_error();
}
