#include "tests/unit/support/openssl_peer.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/support/pki.h"

/* The end that is taken over. */
struct end {
    SSL *ssl;
    BIO *in;
    BIO *out;
    uint8_t client_secret[TLS_SECRET_MAX]; /* 1.3 */
    uint8_t server_secret[TLS_SECRET_MAX];
};

struct openssl_config openssl_config_nth(unsigned i)
{
    return (struct openssl_config){
        .v13 = i % 2 == 0,
        .suite = i / 2 % TLS_SUITES,
        .client = i / 2 / TLS_SUITES == 1,
        .tickets = 2,
    };
}

static void take_secret(const char *line, const char *label, uint8_t *ret_secret)
{
    const size_t n = strlen(label);
    if (strncmp(line, label, n) != 0)
        return;
    const char *hex = strchr(line + n, ' ') + 1; /* behind client_random */
    unsigned byte;
    for (size_t i = 0; i < TLS_SECRET_MAX && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
        ret_secret[i] = (uint8_t)byte;
}

static void on_keylog(const SSL *ssl, const char *line)
{
    struct end *end = SSL_get_app_data(ssl);
    if (end == NULL)
        return;
    take_secret(line, "CLIENT_TRAFFIC_SECRET_0 ", end->client_secret);
    take_secret(line, "SERVER_TRAFFIC_SECRET_0 ", end->server_secret);
}

/* A context for both roles, made once in a process. */
static SSL_CTX *context(bool server)
{
    static SSL_CTX *contexts[2];
    if (contexts[server] != NULL)
        return contexts[server];
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    cr_assert_not_null(ctx);
    SSL_CTX_set_keylog_callback(ctx, on_keylog);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"t", 1);
    if (server) {
        struct pki_certificate certificate = pki_make_valid(PKI_EC, "a.test", "DNS:a.test", NULL);
        cr_assert_eq(SSL_CTX_use_certificate(ctx, certificate.x509), 1);
        cr_assert_eq(SSL_CTX_use_PrivateKey(ctx, certificate.key), 1);
        pki_free(&certificate);
    }
    return contexts[server] = ctx;
}

static SSL *make(const struct openssl_config *config, bool client, BIO **ret_in, BIO **ret_out)
{
    static const char *const ciphers[] = {"ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"};
    static const char *const suites[] = {
        "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"};
    const int version = config->v13 ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL *ssl = SSL_new(context(!client));
    cr_assert_not_null(ssl);
    cr_assert_eq(SSL_set_min_proto_version(ssl, version), 1);
    cr_assert_eq(SSL_set_max_proto_version(ssl, version), 1);
    cr_assert_eq(SSL_set_cipher_list(ssl, ciphers[config->suite]), 1);
    cr_assert_eq(SSL_set_ciphersuites(ssl, suites[config->suite]), 1);
    *ret_in = BIO_new(BIO_s_mem());
    *ret_out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(*ret_in, -1);
    SSL_set_bio(ssl, *ret_in, *ret_out);
    if (client) {
        SSL_set_connect_state(ssl);
        if (config->session != NULL)
            cr_assert_eq(SSL_set_session(ssl, config->session), 1);
        if (config->max_fragment != 0)
            cr_assert_eq(SSL_set_tlsext_max_fragment_length(ssl, config->max_fragment), 1);
    } else {
        SSL_set_accept_state(ssl);
        cr_assert_eq(SSL_set_num_tickets(ssl, config->tickets), 1);
    }
    return ssl;
}

static bool handshake(SSL *ssl)
{
    const int rc = SSL_do_handshake(ssl);
    cr_assert(rc == 1 || SSL_get_error(ssl, rc) == SSL_ERROR_WANT_READ);
    return rc == 1;
}

/* One record from the peer to this end, so that nothing behind the handshake gets there. */
static void pass_record(struct openssl_peer *peer, struct end *end)
{
    uint8_t record[TLS_RECORD_MAX];
    cr_assert_eq(BIO_read(peer->out, record, TLS_HEADER_SIZE), TLS_HEADER_SIZE);
    const int n = record[3] << 8 | record[4];
    cr_assert_eq(BIO_read(peer->out, record + TLS_HEADER_SIZE, n), n);
    cr_assert_eq(BIO_write(end->in, record, TLS_HEADER_SIZE + n), TLS_HEADER_SIZE + n);
}

/* What this end has written goes to the peer, and to `sent`: 1.3: of the last step; 1.2: all. */
static void pass_back(struct openssl_peer *peer, struct end *end, bool v13)
{
    char *bytes;
    const long n = BIO_get_mem_data(end->out, &bytes);
    if (v13)
        peer->proof.n = 0;
    cr_assert_leq(peer->proof.n + (size_t)n, sizeof(peer->sent));
    if (n > 0) {
        memcpy(peer->sent + peer->proof.n, bytes, (size_t)n);
        cr_assert_eq(BIO_write(peer->in, bytes, (int)n), n);
    }
    peer->proof.n += (size_t)n;
    (void)BIO_reset(end->out);
}

static void take_over(struct openssl_peer *peer, struct end *end, struct tls_crypto *crypto,
    const struct openssl_config *config)
{
    static const uint16_t fragments[] = {TLS_FRAGMENT_MAX, 512, 1024, 2048, 4096};
    struct tls_record_config ours = {.client = config->client};
    cr_assert(
        tls_suite_find(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(end->ssl)), &ours.suite));
    cr_assert_eq(ours.suite, config->suite);
    const uint8_t fragment = SSL_SESSION_get_max_fragment_length(SSL_get_session(end->ssl));
    cr_assert_eq(fragment, config->max_fragment);
    ours.fragment_max = fragments[fragment];
    ours.held = fragment != 0;
    cr_assert_eq(SSL_is_init_finished(end->ssl), 1);
    cr_assert_eq(SSL_pending(end->ssl), 0);
    cr_assert_eq(BIO_pending(end->in), 0);
    if (config->v13) {
        cr_assert_eq(
            tls_record_init13(&peer->record, crypto, &ours, end->client_secret, end->server_secret),
            0);
    } else {
        uint8_t secret[TLS_MASTER_SIZE], client[TLS_RANDOM_SIZE], server[TLS_RANDOM_SIZE];
        SSL_SESSION_get_master_key(SSL_get_session(end->ssl), secret, sizeof(secret));
        SSL_get_client_random(end->ssl, client, sizeof(client));
        SSL_get_server_random(end->ssl, server, sizeof(server));
        const struct tls_master master = {secret, client, server};
        cr_assert_eq(tls_record_init12(&peer->record, crypto, &ours, &master), 0);
    }
    if (config->v13 && config->client)
        peer->proof.n = 0; /* its Finished has other keys */
    SSL_set_quiet_shutdown(end->ssl, 1);
    SSL_free(end->ssl);
}

void openssl_peer_init(
    struct openssl_peer *peer, struct tls_crypto *crypto, const struct openssl_config *config)
{
    struct end end = {0};
    *peer = (struct openssl_peer){.proof = {peer->sent, 0}};
    end.ssl = make(config, config->client, &end.in, &end.out);
    peer->ssl = make(config, !config->client, &peer->in, &peer->out);
    SSL_set_app_data(end.ssl, &end);
    bool done = handshake(end.ssl);
    pass_back(peer, &end, config->v13);
    for (int i = 0; !done && i < 100; i++) {
        if (BIO_pending(peer->out) == 0)
            handshake(peer->ssl);
        pass_record(peer, &end);
        done = handshake(end.ssl);
        pass_back(peer, &end, config->v13);
    }
    cr_assert(done);
    cr_assert(handshake(peer->ssl));
    peer->resumed = SSL_session_reused(end.ssl);
    take_over(peer, &end, crypto, config);
}

void openssl_peer_deinit(struct openssl_peer *peer, struct tls_crypto *crypto)
{
    SSL_set_quiet_shutdown(peer->ssl, 1);
    SSL_free(peer->ssl);
    tls_record_wipe(&peer->record, crypto);
}
