/*
 * A listener has an SSL_CTX for each of its certificates. A handshake begins with the first one,
 * and is given another by its SNI; versions, options and callbacks are the same in all of them.
 */

#include "frontd/shard/tls/tls_context.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "common/alloc.h"
#include "common/log.h"

/* Mozilla's intermediate list, without what needs DH parameters. */
#define SUITES_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SUITES_1_2                                                                                 \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

/* The preferred one first. The hybrid is of OpenSSL 3.5 on. */
#define GROUPS        "X25519:P-256:P-384"
#define GROUPS_HYBRID "X25519MLKEM768:" GROUPS

enum { FLIGHT_FRAGMENT = 2048 /* bytes of a record that OpenSSL writes */ };

/* Logs what OpenSSL says is wrong with a part of the material. Returns -EINVAL. */
static int complain(const struct conf_listener *conf, const char *what)
{
    unsigned long error = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(error);
    log_error("listener %s: %s is of no use: %s", conf->name, what,
        reason == NULL ? "not what it should be" : reason);
    ERR_clear_error();
    return -EINVAL;
}

static int no_passphrase(char *room, int size, int writing, void *data)
{
    (void)room, (void)size, (void)writing, (void)data;
    return -1;
}

/* A BIO that reads the text; NULL: there is no memory. */
static BIO *bio_of(struct span text)
{
    return text.n > INT32_MAX ? NULL : BIO_new_mem_buf(text.p, (int)text.n);
}

/* Whether reading has failed for another reason than that nothing more is there. */
static bool has_junk(void)
{
    unsigned long error = ERR_peek_last_error();
    bool end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (end)
        ERR_clear_error();
    return !end;
}

/* The certificate, and those that lead to its root. */
static int use_chain(
    SSL_CTX *ctx, struct span text, struct tls_names *names, uint32_t index, bool *ret_bad)
{
    BIO *bio = bio_of(text);
    X509 *own = bio == NULL ? NULL : PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    int r = bio == NULL ? -ENOMEM : 0;
    *ret_bad = r == 0 && (own == NULL || SSL_CTX_use_certificate(ctx, own) != 1);
    if (r == 0 && !*ret_bad)
        r = tls_names_add(names, own, index);
    X509_free(own);
    while (r == 0 && !*ret_bad) {
        X509 *next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (next == NULL) {
            *ret_bad = has_junk();
            break;
        }
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
            X509_free(next);
            *ret_bad = true;
        }
    }
    BIO_free(bio);
    return r;
}

static int use_key(SSL_CTX *ctx, struct span text, bool *ret_bad)
{
    BIO *bio = bio_of(text);
    if (bio == NULL)
        return -ENOMEM;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    *ret_bad = key == NULL || SSL_CTX_use_PrivateKey(ctx, key) != 1 ||
               SSL_CTX_check_private_key(ctx) != 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return 0;
}

/* The CAs by which client certificates are verified, whose names clients are told. */
static int use_client_ca(SSL_CTX *ctx, struct span text, bool *ret_bad)
{
    BIO *bio = bio_of(text);
    unsigned count = 0;
    *ret_bad = false;
    if (bio == NULL)
        return -ENOMEM;
    for (X509 *ca; !*ret_bad && (ca = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL;
         count++) {
        *ret_bad = X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), ca) != 1 ||
                   SSL_CTX_add_client_CA(ctx, ca) != 1;
        X509_free(ca);
    }
    *ret_bad = *ret_bad || has_junk() || count == 0;
    BIO_free(bio);
    return 0;
}

/* The same CAs as another has, in memory once. */
static bool share_client_ca(SSL_CTX *ctx, const SSL_CTX *from)
{
    const STACK_OF(X509_NAME) *names = SSL_CTX_get_client_CA_list(from);
    STACK_OF(X509_NAME) *copy = names == NULL ? NULL : SSL_dup_CA_list(names);
    SSL_CTX_set1_cert_store(ctx, SSL_CTX_get_cert_store(from));
    SSL_CTX_set_client_CA_list(ctx, copy);
    return copy != NULL || names == NULL;
}

/*
 * A ticket is good for the listener that gave it, as long as that verifies clients in the same way:
 * else one from a listener without client certificates would open another one.
 */
static bool set_session_scope(
    SSL_CTX *ctx, const struct conf_listener *conf, const struct tls_material_listener *material)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    uint8_t auth = (uint8_t)conf->tls->client_auth;
    unsigned n = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, conf->name, strlen(conf->name) + 1) == 1 &&
              EVP_DigestUpdate(md, &auth, 1) == 1 &&
              EVP_DigestUpdate(md, material->client_ca.p, material->client_ca.n) == 1 &&
              EVP_DigestFinal_ex(md, hash, &n) == 1 &&
              SSL_CTX_set_session_id_context(ctx, hash, SSL_MAX_SID_CTX_LENGTH) == 1;
    EVP_MD_CTX_free(md);
    return ok;
}

static int on_server_name(SSL *ssl, int *alert, void *data)
{
    const struct tls_context *context = data;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    SSL_CTX *ctx = context->certificates[tls_names_find(&context->names, name)];
    (void)alert;
    if (SSL_get_SSL_CTX(ssl) != ctx)
        SSL_set_SSL_CTX(ssl, ctx);
    return SSL_TLSEXT_ERR_OK;
}

/* The preferred one of those that the client offers. Without one the handshake ends (RFC 7301
 * section 3.2). */
static int on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
    const unsigned char *offered, unsigned offered_len, void *data)
{
    const struct tls_context *context = data;
    unsigned char *chosen;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, ret_len, context->alpn, context->alpn_len, offered,
            offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static const struct tls_context *context_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* Sets up the cipher and MAC of a ticket. */
static bool set_ticket_key(const struct tls_ticket_key *key, const unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypts)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->hmac, sizeof(key->hmac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv, encrypts) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

/*
 * SSL_CTX_set_tlsext_ticket_key_evp_cb(3). A ticket of an older key is good, and replaced; in TLS
 * 1.3 each is, since a client uses it once (RFC 8446 appendix C.4).
 */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int encrypts)
{
    enum { NONE = 0, USED = 1, RENEWED = 2, FAILED = -1 };
    const struct tls_ticket_keys *keys = context_of(ssl)->keys;
    const struct tls_ticket_key *key = NULL;
    if (keys != NULL && keys->count > 0)
        key = encrypts ? &keys->keys[0] : tls_tickets_find(keys, name);
    if (key == NULL || (!encrypts && key->until <= tls_tickets_now()))
        return NONE;
    if (encrypts) {
        memcpy(name, key->name, sizeof(key->name));
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return FAILED;
    }
    if (!set_ticket_key(key, iv, cipher, mac, encrypts))
        return FAILED;
    bool renews = key != &keys->keys[0] || SSL_version(ssl) == TLS1_3_VERSION;
    return !encrypts && renews ? RENEWED : USED;
}

static void set_tickets(SSL_CTX *ctx, const struct conf_tls *conf)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (conf->tickets == 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        return;
    }
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_timeout(ctx, (long)(conf->tickets / 1000));
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}

static int verify_mode(const struct conf_tls *conf)
{
    switch (conf->client_auth) {
    case CONF_CLIENT_AUTH_OPTIONAL: return SSL_VERIFY_PEER;
    case CONF_CLIENT_AUTH_REQUIRED: return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    default: return SSL_VERIFY_NONE;
    }
}

/*
 * What has nothing to do with the certificate. Returns whether OpenSSL agrees.
 *
 * OpenSSL takes a buffer of the largest record that it may write anew for each message, and memory
 * is wiped when it is freed: smaller ones do, of which a chain of certificates takes two or three.
 */
static bool set_rules(SSL_CTX *ctx, const struct conf_tls *conf)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_send_fragment(ctx, FLIGHT_FRAGMENT);
    SSL_CTX_set_verify(ctx, verify_mode(conf), NULL);
    set_tickets(ctx, conf);
    int version = conf->min_version == CONF_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    bool ok = SSL_CTX_set_min_proto_version(ctx, version) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_ciphersuites(ctx, SUITES_1_3) == 1 &&
              SSL_CTX_set_cipher_list(ctx, SUITES_1_2) == 1 &&
              SSL_CTX_set_max_early_data(ctx, 0) == 1 &&
              SSL_CTX_set_recv_max_early_data(ctx, 0) == 1;
    if (ok && SSL_CTX_set1_groups_list(ctx, GROUPS_HYBRID) != 1) {
        ERR_clear_error();
        ok = SSL_CTX_set1_groups_list(ctx, GROUPS) == 1;
    }
    return ok;
}

/* Returns whether there is memory for it. */
static bool set_callbacks(SSL_CTX *ctx, struct tls_context *context, tls_message_fn *message)
{
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, context);
    if (context->alpn_len > 0)
        SSL_CTX_set_alpn_select_cb(ctx, on_alpn, context);
    SSL_CTX_set_msg_callback(ctx, message);
    return SSL_CTX_set_app_data(ctx, context) == 1;
}

static int init_certificate(struct tls_context *context, const struct conf_listener *conf,
    const struct tls_material_listener *material, uint32_t i, SSL_CTX *ctx)
{
    const struct tls_material_certificate *from = &material->certificates[i];
    const struct conf_certificate *files = &conf->tls->certificates[i];
    bool bad = false;
    int r = use_chain(ctx, from->cert, &context->names, i, &bad);
    if (r < 0 || bad)
        return r < 0 ? r : complain(conf, files->cert.path);
    r = use_key(ctx, from->key, &bad);
    if (r < 0 || bad)
        return r < 0 ? r : complain(conf, files->key.path);
    if (i > 0)
        bad = !share_client_ca(ctx, context->certificates[0]);
    else if (material->client_ca.n > 0)
        r = use_client_ca(ctx, material->client_ca, &bad);
    return r == 0 && bad ? complain(conf, conf->tls->client_ca.path) : r;
}

static int pack_alpn(struct tls_context *context)
{
    size_t n = 0;
    for (uint32_t i = 0; i < context->conf->nalpn; i++)
        n += 1 + strlen(context->conf->alpn[i]);
    context->alpn = mem_zalloc(MAX(n, (size_t)1));
    if (context->alpn == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < context->conf->nalpn; i++) {
        size_t len = strlen(context->conf->alpn[i]);
        context->alpn[context->alpn_len] = (uint8_t)len;
        memcpy(context->alpn + context->alpn_len + 1, context->conf->alpn[i], len);
        context->alpn_len += (uint32_t)len + 1;
    }
    return 0;
}

int tls_context_init(struct tls_context *context, const struct conf_listener *conf,
    const struct tls_material_listener *material, const struct tls_ticket_keys *keys,
    tls_message_fn *message)
{
    *context = (struct tls_context){
        .conf = conf->tls, .http = conf->protocol == CONF_PROTOCOL_HTTP, .keys = keys};
    CHECK(material->ncertificates == conf->tls->ncertificates);
    int r = pack_alpn(context);
    context->certificates = mem_zalloc(material->ncertificates * sizeof(SSL_CTX *));
    if (context->certificates == NULL) {
        tls_context_deinit(context);
        return -ENOMEM;
    }
    for (uint32_t i = 0; r == 0 && i < material->ncertificates; i++) {
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        if (ctx == NULL) {
            r = -ENOMEM;
            break;
        }
        context->certificates[context->count++] = ctx;
        if (!set_callbacks(ctx, context, message) || !set_rules(ctx, conf->tls) ||
            !set_session_scope(ctx, conf, material))
            r = complain(conf, "OpenSSL");
        else
            r = init_certificate(context, conf, material, i, ctx);
    }
    if (r < 0)
        tls_context_deinit(context);
    return r;
}

void tls_context_deinit(struct tls_context *context)
{
    for (uint32_t i = 0; context->certificates != NULL && i < context->count; i++)
        SSL_CTX_free(context->certificates[i]);
    mem_free(context->certificates);
    tls_names_deinit(&context->names);
    mem_free(context->alpn);
    *context = (struct tls_context){0};
}

SSL *tls_context_new_ssl(const struct tls_context *context)
{
    SSL *ssl = SSL_new(context->certificates[0]);
    bool keyless = context->keys == NULL || context->keys->count == 0;
    if (ssl != NULL && keyless) { /* TLS 1.3 has no form for an empty ticket */
        SSL_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_set_num_tickets(ssl, 0);
    }
    return ssl;
}
