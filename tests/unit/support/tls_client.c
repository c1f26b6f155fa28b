#include "tests/unit/support/tls_client.h"

#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/ipc/tls_material.h"
#include "frontd/shard/tls/tls.h"

enum { STEPS = 200, TURNS = 20 };

static struct conf_tls *conf_of(const struct tls_setup *setup)
{
    struct conf_tls *tls = mem_zalloc(sizeof(*tls));
    CHECK(tls != NULL);
    tls->certificates = mem_zalloc(setup->ncertificates * sizeof(*tls->certificates));
    tls->ncertificates = setup->ncertificates;
    tls->min_version = setup->min_version;
    tls->client_auth = setup->client_auth;
    tls->tickets = setup->tickets;
    tls->handshake_timeout = 10000;
    tls->alpn = mem_zalloc(ARRAY_LEN(setup->alpn) * sizeof(*tls->alpn));
    CHECK(tls->certificates != NULL && tls->alpn != NULL);
    while (tls->nalpn < ARRAY_LEN(setup->alpn) && setup->alpn[tls->nalpn] != NULL) {
        tls->alpn[tls->nalpn] = mem_strdup(setup->alpn[tls->nalpn]);
        tls->nalpn++;
    }
    return tls;
}

void tls_client_set_up(struct shardlet *shardlet, const struct tls_setup *setup)
{
    struct tls_material_certificate certificates[8];
    struct tls_material_listener listeners[8];
    struct tls_material material = {
        .listeners = listeners, .nlisteners = shardlet->conf->nlisteners};
    CHECK(setup->ncertificates <= ARRAY_LEN(certificates) && material.nlisteners <= 8);
    for (uint32_t i = 0; i < setup->ncertificates; i++)
        certificates[i] = (struct tls_material_certificate){
            pki_cert(&setup->certificates[i]), pki_key(&setup->certificates[i])};
    for (uint32_t i = 0; i < material.nlisteners; i++) {
        shardlet->conf->listeners[i].tls = conf_of(setup);
        listeners[i] = (struct tls_material_listener){
            .listener = i, .ncertificates = setup->ncertificates, .certificates = certificates};
        if (setup->client_ca != NULL)
            listeners[i].client_ca = pki_cert(setup->client_ca);
    }
    shardlet->ctx.ticket_keys = setup->keys;
    CHECK(tls_use(shardlet->ctx.tls, &material) == 0);
}

static void apply(SSL_CTX *ctx, const struct tls_wish *wish)
{
    if (wish->version != 0)
        CHECK(SSL_CTX_set_min_proto_version(ctx, wish->version) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, wish->version) == 1);
    if (wish->cipher != NULL && wish->version == TLS1_3_VERSION)
        CHECK(SSL_CTX_set_ciphersuites(ctx, wish->cipher) == 1);
    else if (wish->cipher != NULL)
        CHECK(SSL_CTX_set_cipher_list(ctx, wish->cipher) == 1);
    if (wish->alpn != NULL)
        CHECK(SSL_CTX_set_alpn_protos(
                  ctx, (const unsigned char *)wish->alpn, (unsigned)strlen(wish->alpn)) == 0);
    if (wish->certificate != NULL)
        CHECK(SSL_CTX_use_certificate(ctx, wish->certificate->x509) == 1 &&
              SSL_CTX_use_PrivateKey(ctx, wish->certificate->key) == 1);
    if (wish->trusts != NULL) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
        CHECK(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), wish->trusts->x509) == 1);
    }
    if (wish->fragment != 0)
        CHECK(SSL_CTX_set_tlsext_max_fragment_length(ctx, (uint8_t)wish->fragment) == 1);
}

struct tls_client tls_client_open(
    struct shardlet *shardlet, const char *listener, const struct tls_wish *wish)
{
    struct tls_client client = {.ctx = SSL_CTX_new(TLS_client_method())};
    CHECK(client.ctx != NULL);
    apply(client.ctx, wish);
    client.ssl = SSL_new(client.ctx);
    client.in = BIO_new(BIO_s_mem());
    client.out = BIO_new(BIO_s_mem());
    client.client = shardlet_client(shardlet, listener, &client.fd);
    CHECK(client.ssl != NULL && client.in != NULL && client.out != NULL);
    BIO_set_mem_eof_return(client.in, -1);
    SSL_set_bio(client.ssl, client.in, client.out);
    SSL_set_connect_state(client.ssl);
    if (wish->name != NULL)
        CHECK(SSL_set_tlsext_host_name(client.ssl, wish->name) == 1);
    if (wish->session != NULL)
        CHECK(SSL_set_session(client.ssl, wish->session) == 1);
    return client;
}

bool tls_client_send(struct tls_client *client, size_t n)
{
    char bytes[4096];
    bool any = false;
    while (n > 0 && BIO_pending(client->out) > 0) {
        int got = BIO_read(client->out, bytes, (int)MIN(n, sizeof(bytes)));
        CHECK(got > 0);
        if (send(client->fd, bytes, (size_t)got, MSG_NOSIGNAL) != got)
            return any; /* the shard has closed it */
        n -= (size_t)got;
        any = true;
    }
    return any;
}

/* Takes what the shard has sent. */
static void receive(struct tls_client *client)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        CHECK(BIO_write(client->in, bytes, (int)n) == n);
    if (n == 0)
        BIO_set_mem_eof_return(client->in, 0);
}

bool tls_client_shake(struct tls_client *client, struct shardlet *shardlet)
{
    for (int i = 0; i < STEPS; i++) {
        ERR_clear_error();
        receive(client);
        int r = SSL_do_handshake(client->ssl);
        tls_client_send(client, SIZE_MAX);
        if (r == 1)
            return true;
        if (SSL_get_error(client->ssl, r) != SSL_ERROR_WANT_READ)
            return false;
        shardlet_step(shardlet);
    }
    return false;
}

struct tls_client tls_client_connect(
    struct shardlet *shardlet, const char *listener, const struct tls_wish *wish)
{
    struct tls_client client = tls_client_open(shardlet, listener, wish);
    CHECK(tls_client_shake(&client, shardlet));
    for (int i = 0; i < STEPS && client.client->transport->opening; i++)
        shardlet_step(shardlet);
    CHECK(!client.client->transport->opening);
    return client;
}

void tls_client_seal(struct tls_client *client, struct span text)
{
    CHECK(SSL_write(client->ssl, text.p, (int)text.n) == (int)text.n);
}

void tls_client_say(struct tls_client *client, struct span text)
{
    tls_client_seal(client, text);
    tls_client_send(client, SIZE_MAX);
}

int tls_client_hear(struct tls_client *client, char *out, size_t size, size_t *n)
{
    int r = 1;
    ERR_clear_error();
    receive(client);
    while (*n < size && (r = SSL_read(client->ssl, out + *n, (int)(size - *n))) > 0)
        *n += (size_t)r;
    return r > 0 ? SSL_ERROR_WANT_READ : SSL_get_error(client->ssl, r);
}

int tls_client_listen(
    struct tls_client *client, struct shardlet *shardlet, char *out, size_t size, size_t *n)
{
    int error = SSL_ERROR_WANT_READ;
    for (int i = 0; i < TURNS && error == SSL_ERROR_WANT_READ; i++) {
        shardlet_turn(shardlet);
        error = tls_client_hear(client, out, size, n);
        tls_client_send(client, SIZE_MAX);
    }
    shardlet_turn(shardlet);
    shardlet_dash_dates(out, *n);
    return error;
}

int tls_client_alert(void)
{
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    return reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : 0;
}

void tls_client_close(struct tls_client *client)
{
    /* Else its session counts as broken, and is not resumed. */
    SSL_set_shutdown(client->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(client->ssl);
    SSL_CTX_free(client->ctx);
    if (client->fd >= 0)
        close(client->fd);
    *client = (struct tls_client){.fd = -1};
}
