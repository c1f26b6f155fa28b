#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/support/openssl_peer.h"

/* The number of the next record is what OpenSSL's own last records say. */

static struct tls_crypto *crypto;
static struct openssl_peer peer;
static char copy[OPENSSL_SENT_MAX];

static void says(const char *text, SSL *ssl)
{
    const struct iovec iov = {(void *)text, strlen(text)};
    uint8_t out[200];
    char in[100];
    struct tls_sealed sealed = tls_record_seal(&peer.record, crypto, &iov, 1, 0, out, sizeof(out));
    cr_assert_eq(sealed.data, iov.iov_len);
    cr_assert_eq(BIO_write(peer.in, out, (int)sealed.bytes), (int)sealed.bytes);
    cr_assert_eq(SSL_read(ssl, in, sizeof(in)), (int)iov.iov_len);
    cr_assert_arr_eq(in, text, iov.iov_len);
}

static int prove(struct span sent)
{
    return tls_record_prove(&peer.record, crypto, sent);
}

Test(tls_prove, tickets)
{
    static const unsigned tickets[] = {0, 1, 2, 7};
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < OPENSSL_CONFIGS * ARRAY_LEN(tickets); i++) {
        struct openssl_config config = openssl_config_nth(i / 4);
        config.tickets = tickets[i % 4];
        openssl_peer_init(&peer, crypto, &config);
        cr_assert_eq(prove(peer.proof), 0);
        const unsigned sealed = !config.v13 ? 1 : config.client ? 0 : config.tickets;
        cr_assert_eq(peer.record.write.sequence, sealed);
        says("after the handshake", peer.ssl);
        openssl_peer_deinit(&peer, crypto);
    }
    tls_crypto_free(crypto);
}

/* What was sealed, as a log over all processes has it. */
static struct {
    uint8_t entries[16][TLS_KEY_MAX + TLS_NONCE_SIZE];
    size_t n;
    bool twice; /* with a nonce and its key */
} seals;

static void on_sealed(
    void *arg, const uint8_t key[static TLS_KEY_MAX], const uint8_t nonce[static TLS_NONCE_SIZE])
{
    uint8_t *entry = seals.entries[seals.n];
    (void)arg;
    cr_assert_lt(seals.n, ARRAY_LEN(seals.entries));
    memcpy(entry, key, TLS_KEY_MAX);
    memcpy(entry + TLS_KEY_MAX, nonce, TLS_NONCE_SIZE);
    for (size_t i = 0; i < seals.n; i++)
        seals.twice |= memcmp(seals.entries[i], entry, sizeof(seals.entries[i])) == 0;
    seals.n++;
}

/* OpenSSL's records count among those that were sealed: going on at a number of them is seen. */
Test(tls_prove, is_in_the_log)
{
    const struct iovec iov = {(void *)"x", 1};
    uint8_t out[200];
    crypto = tls_crypto_new();
    tls_crypto_watch(crypto, on_sealed, NULL);
    for (unsigned i = 0; i < OPENSSL_CONFIGS; i++) {
        const struct openssl_config config = openssl_config_nth(i);
        openssl_peer_init(&peer, crypto, &config);
        seals.n = 0;
        cr_assert_eq(prove(peer.proof), 0);
        const size_t sealed = !config.v13 ? 1 : config.client ? 0 : config.tickets;
        cr_expect_eq(seals.n, sealed, "configuration %u", i);
        says("one", peer.ssl);
        says("two", peer.ssl);
        cr_expect(seals.n == sealed + 2 && !seals.twice, "configuration %u", i);
        peer.record.write.sequence = 0; /* OpenSSL's first, where it has sealed any; else ours */
        tls_record_seal(&peer.record, crypto, &iov, 1, 0, out, sizeof(out));
        cr_expect(seals.twice, "configuration %u", i);
        seals.twice = false;
        openssl_peer_deinit(&peer, crypto);
    }
    tls_crypto_free(crypto);
}

/* A session of a connection of this kind, for the client to resume. */
static SSL_SESSION *get_session(const struct openssl_config *config)
{
    char byte;
    uint8_t out[64];
    struct openssl_config client = *config;
    client.client = false; /* OpenSSL keeps the ticket */
    client.session = NULL;
    openssl_peer_init(&peer, crypto, &client);
    cr_assert_leq(SSL_read(peer.ssl, &byte, 1), 0); /* the tickets of 1.3 */
    cr_assert_eq(prove(peer.proof), 0);
    tls_record_close(&peer.record); /* else OpenSSL does not resume it */
    struct tls_sealed sealed = tls_record_seal(&peer.record, crypto, NULL, 0, 0, out, sizeof(out));
    BIO_write(peer.in, out, (int)sealed.bytes);
    SSL_shutdown(peer.ssl);
    SSL_shutdown(peer.ssl);
    SSL_SESSION *session = SSL_get1_session(peer.ssl);
    openssl_peer_deinit(&peer, crypto);
    return session;
}

/* Another number of tickets; in 1.2 the server's Finished comes before the client's. */
Test(tls_prove, resumed)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < OPENSSL_CONFIGS; i++) {
        struct openssl_config config = openssl_config_nth(i);
        config.session = get_session(&config);
        openssl_peer_init(&peer, crypto, &config);
        cr_assert(peer.resumed);
        cr_assert_eq(prove(peer.proof), 0);
        cr_assert_eq(
            peer.record.write.sequence, config.v13 && config.client ? 0 : 1, "configuration %u", i);
        says("resumed", peer.ssl);
        openssl_peer_deinit(&peer, crypto);
        SSL_SESSION_free(config.session);
    }
    tls_crypto_free(crypto);
}

/* Refused, and nothing is ever sealed; then the test goes on with what was before. */
static void refuses(struct span sent)
{
    const struct tls_record before = peer.record;
    const struct iovec iov = {(void *)"data", 4};
    uint8_t out[200];
    cr_assert_eq(prove(sent), -EBADMSG);
    cr_assert_eq(memcmp(&before.write, &peer.record.write, sizeof(before.write)), 0);
    tls_record_fail(&peer.record, TLS_ALERT_INTERNAL_ERROR);
    struct tls_sealed sealed = tls_record_seal(&peer.record, crypto, &iov, 1, 0, out, sizeof(out));
    cr_assert(sealed.ended);
    cr_assert_eq(sealed.bytes, 0);
    peer.record = before;
}

static size_t first_record(const char *bytes)
{
    return TLS_HEADER_SIZE + ((size_t)(uint8_t)bytes[3] << 8 | (uint8_t)bytes[4]);
}

/* Where the records begin that are proven. */
static size_t sealed_from(const struct openssl_config *config)
{
    size_t at = 0;
    while (!config->v13 && peer.sent[at] != 20)
        at += first_record(peer.sent + at);
    return config->v13 ? 0 : at + first_record(peer.sent + at);
}

Test(tls_prove, anything_else)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < OPENSSL_CONFIGS; i++) {
        const struct openssl_config config = openssl_config_nth(i);
        openssl_peer_init(&peer, crypto, &config);
        const size_t n = peer.proof.n;
        memcpy(copy, peer.sent, n);
        if (config.v13 && config.client) {
            refuses((struct span){"\27\3\3\0\0", 5}); /* nothing can have been sealed */
            openssl_peer_deinit(&peer, crypto);
            continue;
        }
        const size_t from = sealed_from(&config);
        for (size_t at = from; at < n; at++) {
            copy[at] = (char)(copy[at] ^ 1);
            refuses((struct span){copy, n});
            copy[at] = (char)(copy[at] ^ 1);
        }
        refuses((struct span){copy, n - 1});
        if (config.v13) {
            const size_t second = first_record(copy);
            refuses((struct span){copy + second, n - second}); /* the first is missing */
        } else {
            refuses((struct span){copy, from});            /* Finished is missing */
            refuses((struct span){copy + from, n - from}); /* ChangeCipherSpec is */
            refuses((struct span){0});
        }
        memcpy(copy + n, copy + from, n - from); /* one more, which does not open */
        refuses((struct span){copy, 2 * n - from});
        cr_assert_eq(prove(peer.proof), 0);
        says("proven", peer.ssl);
        openssl_peer_deinit(&peer, crypto);
    }
    tls_crypto_free(crypto);
}

/* A record that opens, but is no ticket: OpenSSL has said something that is not known here. */
Test(tls_prove, other_messages)
{
    static const struct {
        uint8_t type;
        const char *content;
        size_t n;
    } others[] = {
        {23, "data", 4},
        {21, "\1\0", 2},
        {22, "\30\0\0\1\0", 5},           /* KeyUpdate: the next key is another one */
        {22, "\4\0\0\1x\30\0\0\1\0", 10}, /* behind a ticket */
        {22, "\4\0\0\2x", 5},             /* not a whole one */
        {22, "\4\0\0", 3},
        {22, "", 0},
    };
    static const uint8_t secret[TLS_SECRET_MAX] = {1};
    const struct tls_record_config config = {
        .suite = TLS_AES_128_GCM, .fragment_max = TLS_FRAGMENT_MAX};
    crypto = tls_crypto_new();
    for (size_t i = 0; i <= ARRAY_LEN(others); i++) {
        struct tls_record sealer;
        uint8_t inner[32], header[TLS_HEADER_SIZE] = {23, 3, 3}, sent[64], nonce[TLS_NONCE_SIZE];
        cr_assert_eq(tls_record_init13(&peer.record, crypto, &config, secret, secret), 0);
        sealer = peer.record;
        const bool right = i == ARRAY_LEN(others);
        const size_t n = right ? 5 : others[i].n;
        memcpy(inner, right ? "\4\0\0\1x" : others[i].content, n);
        inner[n] = right ? 22 : others[i].type;
        header[4] = (uint8_t)(n + 1 + TLS_TAG_SIZE);
        memcpy(sent, header, sizeof(header));
        memcpy(sent + sizeof(header), inner, n + 1);
        tls_keys_nonce_xored(&sealer.write, nonce);
        const struct tls_sealing sealing = {
            config.suite, sealer.write.key, nonce, header, sizeof(header)};
        cr_assert_eq(tls_crypto_seal(crypto, &sealing, sent + sizeof(header), n + 1), 0);
        const struct span all = {(char *)sent, sizeof(header) + n + 1 + TLS_TAG_SIZE};
        if (right)
            cr_assert_eq(prove(all), 0);
        else
            refuses(all);
        tls_record_wipe(&peer.record, crypto);
    }
    tls_crypto_free(crypto);
}
