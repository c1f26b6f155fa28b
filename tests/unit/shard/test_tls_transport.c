#include <criterion/criterion.h>
#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/tls/tls_transport.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/tls_client.h"

enum { OUT_MAX = 1 << 16 };

static struct shardlet from, to;
static struct pki_certificate ec, rsa;

static void set_up(void)
{
    ec = pki_make_valid(PKI_EC, "server", "DNS:a.test", NULL);
    rsa = pki_make_valid(PKI_RSA, "server", "DNS:a.test", NULL);
    shardlet_init(&from, MOVE_CONF, 0);
    shardlet_init(&to, MOVE_CONF, 1);
}

static void tear_down(void)
{
    shardlet_deinit(&from);
    shardlet_deinit(&to);
    pki_free(&ec);
    pki_free(&rsa);
}

TestSuite(tls_transport, .init = set_up, .fini = tear_down);

#define H       "Host: h\r\n"
#define OPTIONS "OPTIONS /rpc HTTP/1.1\r\n" H "\r\n"
#define LAST    "OPTIONS /rpc HTTP/1.1\r\n" H "Connection: close\r\n\r\n"

/* All that can be negotiated. */
static const struct {
    int version;
    const char *cipher;
    bool rsa;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", false},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", false},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", true},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", false},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", false},
    {TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", true},
    {TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", true},
    {TLS1_2_VERSION, "ECDHE-RSA-CHACHA20-POLY1305", true},
};

static void reset(const struct tls_setup *setup)
{
    shardlet_deinit(&from);
    shardlet_init(&from, MOVE_CONF, 0);
    tls_client_set_up(&from, setup);
}

/* A request and its answer, then the end with close_notify on both sides. */
Test(tls_transport, every_suite)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct tls_setup setup = {
            .certificates = suites[i].rsa ? &rsa : &ec, .ncertificates = 1};
        const struct tls_wish wish = {.version = suites[i].version, .cipher = suites[i].cipher};
        char out[OUT_MAX];
        size_t n = 0;
        reset(&setup);
        struct tls_client peer = tls_client_connect(&from, "web", &wish);
        cr_expect_str_eq(SSL_get_cipher_name(peer.ssl), suites[i].cipher);
        tls_client_say(&peer, SPAN(OPTIONS OPTIONS));
        cr_expect_eq(tls_client_listen(&peer, &from, out, sizeof(out), &n), SSL_ERROR_WANT_READ);
        cr_expect(n > 0 && memcmp(out, "HTTP/1.1 204", 12) == 0, "%s: %.*s", suites[i].cipher,
            (int)n, out);
        tls_client_say(&peer, SPAN(LAST));
        cr_expect_eq(tls_client_listen(&peer, &from, out, sizeof(out), &n), SSL_ERROR_ZERO_RETURN,
            "%s", suites[i].cipher);
        tls_client_close(&peer);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, 0u);
    }
}
