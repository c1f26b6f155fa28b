#include "frontd/shard/tls/tls_handshake.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "common/alloc.h"
#include "common/secret.h"

enum { TYPE_CHANGE_CIPHER_SPEC = 20 };

/* Reads hexadecimal digits up to the end of the line. Returns how many bytes they are. */
static uint8_t read_hex(const char *text, uint8_t secret[static TLS_SECRET_MAX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t n = 0;
    for (; n < TLS_SECRET_MAX && text[0] != '\0' && text[1] != '\0'; n++, text += 2) {
        const char *high = strchr(digits, tolower((unsigned char)text[0]));
        const char *low = strchr(digits, tolower((unsigned char)text[1]));
        if (high == NULL || low == NULL)
            break;
        secret[n] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return n;
}

static void on_secret(const SSL *ssl, const char *line)
{
    static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ", server[] = "SERVER_TRAFFIC_SECRET_0 ";
    struct tls_handshake *handshake = SSL_get_app_data(ssl);
    uint8_t *secret = NULL;
    if (strncmp(line, client, sizeof(client) - 1) == 0)
        secret = handshake->client_secret;
    else if (strncmp(line, server, sizeof(server) - 1) == 0)
        secret = handshake->server_secret;
    const char *text = secret == NULL ? NULL : strchr(line + sizeof(client) - 1, ' ');
    if (text != NULL)
        handshake->secret_size = read_hex(text + 1, secret);
}

/* The secrets that come next are wanted: a Finished has been sent, or read. */
void tls_handshake_message(
    int written, int version, int content_type, const void *message, size_t n, SSL *ssl, void *arg)
{
    (void)written, (void)version, (void)arg;
    if (content_type == SSL3_RT_HANDSHAKE && n > 0 && *(const uint8_t *)message == SSL3_MT_FINISHED)
        SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), on_secret);
}

int tls_handshake_begin(struct tls_handshake *handshake)
{
    SSL *ssl = tls_context_new_ssl(handshake->context);
    handshake->in = BIO_new(BIO_s_mem());
    handshake->out = BIO_new(BIO_s_mem());
    if (ssl == NULL || handshake->in == NULL || handshake->out == NULL ||
        SSL_set_app_data(ssl, handshake) != 1) {
        BIO_free(handshake->in);
        BIO_free(handshake->out);
        SSL_free(ssl);
        ERR_clear_error();
        return -ENOMEM;
    }
    BIO_set_mem_eof_return(handshake->in, -1);
    SSL_set_bio(ssl, handshake->in, handshake->out);
    SSL_set_accept_state(ssl);
    handshake->ssl = ssl;
    return 0;
}

static bool has_change_cipher_spec(struct span records)
{
    const uint8_t *p = (const uint8_t *)records.p;
    size_t at = 0;
    while (at + TLS_HEADER_SIZE <= records.n && p[at] != TYPE_CHANGE_CIPHER_SPEC)
        at += TLS_HEADER_SIZE + (size_t)(p[at + 3] << 8 | p[at + 4]);
    return at + TLS_HEADER_SIZE <= records.n;
}

/* What OpenSSL has written in this step. */
static struct span written(const struct tls_handshake *handshake)
{
    char *p = NULL;
    long n = BIO_get_mem_data(handshake->out, &p);
    return (struct span){p, n > 0 ? (size_t)n : 0};
}

static void fail(struct tls *tls, enum tls_failure_kind kind, const char *text)
{
    tls->failure = (struct tls_failure){kind, text};
}

enum tls_step tls_handshake_step(
    struct tls_handshake *handshake, struct span record, struct buf *out)
{
    SSL *ssl = handshake->ssl;
    struct tls *tls = handshake->tls;
    (void)BIO_reset(handshake->out);
    ERR_clear_error();
    if (BIO_write(handshake->in, record.p, (int)record.n) != (int)record.n) {
        fail(tls, TLS_FAILURE_INTERNAL, "no memory");
        return TLS_STEP_FAILED;
    }
    int r = SSL_accept(ssl);
    SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), NULL);
    int error = r == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, r);
    bool failed = error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ;
    if (failed)
        tls->failure = tls_failure_of(ssl);
    struct span flight = written(handshake);
    bool v12 = SSL_version(ssl) == TLS1_2_VERSION;
    if (flight.n > 0 && buf_append(out, flight.p, flight.n) == 0 && v12 &&
        has_change_cipher_spec(flight)) {
        buf_deinit(&handshake->finished);
        if (buf_append(&handshake->finished, flight.p, flight.n) < 0)
            failed = true;
    }
    if (failed)
        return TLS_STEP_FAILED;
    return error == SSL_ERROR_NONE ? TLS_STEP_DONE : TLS_STEP_MORE;
}

/* What the client has asked for with max_fragment_length (RFC 6066 section 4). */
static void set_fragment_max(const SSL *ssl, struct tls_record_config *config)
{
    uint8_t code = SSL_SESSION_get_max_fragment_length(SSL_get0_session(ssl));
    config->fragment_max = TLS_FRAGMENT_MAX;
    config->held = code >= TLSEXT_max_fragment_length_512 &&
                   code <= TLSEXT_max_fragment_length_4096;
    if (config->held)
        config->fragment_max = (uint16_t)(256 << code);
}

static int init12(struct tls_handshake *handshake, struct tls_record *ret_record,
    const struct tls_record_config *config)
{
    uint8_t secret[TLS_MASTER_SIZE], client[TLS_RANDOM_SIZE], server[TLS_RANDOM_SIZE];
    SSL *ssl = handshake->ssl;
    const struct tls_master master = {secret, client, server};
    if (SSL_SESSION_get_master_key(SSL_get0_session(ssl), secret, sizeof(secret)) !=
            sizeof(secret) ||
        SSL_get_client_random(ssl, client, sizeof(client)) != sizeof(client) ||
        SSL_get_server_random(ssl, server, sizeof(server)) != sizeof(server))
        return -ENOTSUP;
    int r = tls_record_init12(ret_record, handshake->tls->crypto, config, &master);
    secret_wipe(secret, sizeof(secret));
    return r;
}

/* The record layer with the keys of the handshake, and the proof that they are. */
static int init_record(struct tls_handshake *handshake, struct tls_record *ret_record)
{
    SSL *ssl = handshake->ssl;
    struct tls_crypto *crypto = handshake->tls->crypto;
    struct tls_record_config config = {0};
    struct span sent = written(handshake);
    int r = -ENOTSUP;
    if (!tls_suite_find(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)), &config.suite))
        return r;
    set_fragment_max(ssl, &config);
    if (SSL_version(ssl) == TLS1_2_VERSION) {
        sent = (struct span){buf_data(&handshake->finished), buf_len(&handshake->finished)};
        r = init12(handshake, ret_record, &config);
    } else if (SSL_version(ssl) == TLS1_3_VERSION &&
               handshake->secret_size == tls_suite_secret_size(config.suite)) {
        r = tls_record_init13(
            ret_record, crypto, &config, handshake->client_secret, handshake->server_secret);
    }
    if (r == 0 && (r = tls_record_prove(ret_record, crypto, sent)) < 0)
        tls_record_wipe(ret_record, crypto);
    return r;
}

/* Whether nothing is left in OpenSSL that would be lost with it. */
static bool is_empty(const struct tls_handshake *handshake)
{
    return BIO_pending(handshake->in) == 0 && !SSL_has_pending(handshake->ssl) &&
           !SSL_in_init(handshake->ssl);
}

/* The protocol that was agreed on, as it stands in the config. */
static struct span agreed_alpn(const struct tls_handshake *handshake)
{
    const unsigned char *name;
    unsigned n;
    const struct conf_tls *conf = handshake->context->conf;
    SSL_get0_alpn_selected(handshake->ssl, &name, &n);
    for (uint32_t i = 0; n > 0 && i < conf->nalpn; i++) {
        if (strlen(conf->alpn[i]) == n && memcmp(conf->alpn[i], name, n) == 0)
            return (struct span){conf->alpn[i], n};
    }
    return (struct span){0};
}

static int describe(const struct tls_handshake *handshake, struct tls_info **ret_info)
{
    struct buf text = {0};
    if (tls_info_describe(handshake->ssl, &text) < 0)
        return -ENOMEM;
    *ret_info = tls_info_get(
        &handshake->tls->infos, (struct span){buf_data(&text), buf_len(&text)});
    buf_deinit(&text);
    return *ret_info == NULL ? -ENOMEM : 0;
}

int tls_handshake_take_over(struct tls_handshake *handshake, struct tls_record *ret_record,
    struct tls_info **ret_info, struct span *ret_alpn)
{
    struct tls *tls = handshake->tls;
    if (!is_empty(handshake)) {
        fail(tls, TLS_FAILURE_INTERNAL, "OpenSSL holds bytes that are not of the handshake");
        return -EPROTO;
    }
    int r = init_record(handshake, ret_record);
    if (r < 0) {
        fail(tls, TLS_FAILURE_INTERNAL,
            r == -ENOMEM ? "no memory" : "OpenSSL's last records do not prove its keys");
        return r;
    }
    r = describe(handshake, ret_info);
    if (r < 0) {
        tls_record_wipe(ret_record, tls->crypto);
        fail(tls, TLS_FAILURE_INTERNAL, "no memory");
        return r;
    }
    *ret_alpn = agreed_alpn(handshake);
    unsigned version = SSL_version(handshake->ssl) == TLS1_3_VERSION ? METRIC_VERSION_1_3
                                                                     : METRIC_VERSION_1_2;
    unsigned outcome = SSL_session_reused(handshake->ssl) ? METRIC_HANDSHAKE_RESUMED
                                                          : METRIC_HANDSHAKE_FULL;
    share_count(&tls->ctx->count->handshakes[version * METRIC_HANDSHAKE_COUNT + outcome], 1);
    return 0;
}

void tls_handshake_end(struct tls_handshake *handshake)
{
    SSL_free(handshake->ssl); /* and its BIOs */
    handshake->ssl = NULL;
    buf_deinit(&handshake->finished);
    secret_wipe(handshake->client_secret, sizeof(handshake->client_secret));
    secret_wipe(handshake->server_secret, sizeof(handshake->server_secret));
}
