#include <criterion/criterion.h>
#include <openssl/err.h>
#include <string.h>

#include "tests/unit/support/openssl_peer.h"
#include "tests/unit/support/tls_peer.h"
#include "tests/unit/support/tls_violations.h"

/* What is held against a peer is what OpenSSL holds against it; where not, the table says so. */

static uint8_t wire[TLS_PEER_ROOM];

/* OpenSSL reads all that it has. Returns its error. */
static int openssl_reads(SSL *ssl)
{
    static char data[TLS_FRAGMENT_MAX];
    int n;
    do
        n = SSL_read(ssl, data, sizeof(data));
    while (n > 0);
    return SSL_get_error(ssl, n);
}

/* The alert that OpenSSL has sent last. */
static unsigned sent_alert(struct openssl_peer *openssl, struct tls_peer *attacker)
{
    uint8_t type = 0;
    struct span content = {0};
    const int n = BIO_read(openssl->out, wire, sizeof(wire));
    for (size_t at = 0, used; n > 0 && at < (size_t)n; at += used) {
        used = tls_peer_open(attacker, wire + at, (size_t)n - at, &type, &content);
        cr_assert_gt(used, 0);
    }
    cr_assert(type == 21 && content.n == 2);
    return (uint8_t)content.p[1];
}

static unsigned openssl_outcome(
    const struct tls_violation *violation, const struct openssl_config *config)
{
    struct openssl_peer openssl;
    struct tls_crypto *crypto = tls_crypto_new();
    openssl_peer_init(&openssl, crypto, config);
    SSL_set_options(openssl.ssl, SSL_OP_NO_RENEGOTIATION);
    cr_assert_eq(tls_record_prove(&openssl.record, crypto, openssl.proof), 0);
    struct tls_peer attacker = {.crypto = crypto,
        .read = openssl.record.read,
        .write = openssl.record.write,
        .suite = config->suite,
        .v13 = config->v13,
        .version = 3};
    int error = SSL_ERROR_WANT_READ;
    for (size_t i = 0; i < ARRAY_LEN(violation->parts) && violation->parts[i].type != 0; i++) {
        const struct tls_part *part = &violation->parts[i];
        const size_t n = tls_peer_seal(
            &attacker, part->type, part->content, part->n, part->padding, wire);
        cr_assert_eq(BIO_write(openssl.in, wire, (int)n), (int)n);
        error = openssl_reads(openssl.ssl);
    }
    unsigned outcome = TLS_FINE;
    const int reason = ERR_GET_REASON(ERR_peek_error());
    if (error == SSL_ERROR_ZERO_RETURN)
        outcome = TLS_ENDS;
    else if (error != SSL_ERROR_WANT_READ && reason >= SSL_AD_REASON_OFFSET)
        outcome = TLS_RECEIVED | (unsigned)(reason - SSL_AD_REASON_OFFSET);
    else if (error != SSL_ERROR_WANT_READ)
        outcome = sent_alert(&openssl, &attacker);
    ERR_clear_error();
    openssl_peer_deinit(&openssl, crypto);
    tls_crypto_free(crypto);
    return outcome;
}

Test(tls_alerts, as_openssl)
{
    if (OPENSSL_version_major() != 3 || OPENSSL_version_minor() != 0)
        cr_skip("the table is about OpenSSL 3.0");
    for (size_t v = 0; v < tls_violations_n; v++) {
        const struct tls_violation *violation = &tls_violations[v];
        for (unsigned i = 0; i < 4; i++) {
            const bool v13 = i % 2, client = i / 2;
            if (!(violation->where & (v13 ? TLS_V13 : TLS_V12)) ||
                !(violation->where & (client ? TLS_CLIENT : TLS_SERVER)))
                continue;
            /* OpenSSL is what this side is in the table. CHACHA20: no explicit nonces. */
            const struct openssl_config config = {
                .v13 = v13, .client = !client, .suite = TLS_CHACHA20};
            const unsigned expected = violation->openssl != 0 ? violation->openssl
                                                              : violation->outcome;
            cr_assert_eq(openssl_outcome(violation, &config), expected, "%s, 1.%d, %s",
                violation->what, v13 ? 3 : 2, client ? "client" : "server");
        }
    }
}
