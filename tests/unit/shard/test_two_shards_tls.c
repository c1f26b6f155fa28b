/*
 * As test_two_shards.c, with TLS: clients are OpenSSL, and what the shards have is the real
 * transport. No nonce is ever used twice with a key, whatever is cut when. A client that cannot
 * open a record ends the test.
 *
 * What a client says after the hand-over is sealed before it; a part of that is with the old shard,
 * a byte more comes with each turn of the hand-over, and the rest when it is over. The suites
 * change from run to run, and so does where records are cut.
 */

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/moving.h"
#include "tests/unit/support/tls_client.h"

static const struct moving_kind kinds[] = {
    {"websocket, in a frame", "web", SAID(HANDSHAKE("h") WS_FRAME("\x81", "\x8b", "{\"id\":1")),
        SAID("234}"), WS, UPDATED},
    {"frame, it ends", "frames", SAID("\0\0\0\x0b{\"id\":1"), SAID("234}"), FRAMES, ENDING},
    {"h2, in a frame", "h2c", SAID(H2_START H2_GET("\x01") "\0\0\x0c\x01"),
        SAID("\x05\0\0\0\x03" H2_GET_NONE), HTTP, UPDATED},
    {"line, not read", "lines", SAID("{\"id\":1}\n"), SAID("{\"id\":2}\n"), LINES, UNREAD},
    {"http, in a head", "web", SAID(GET "GET /no"), SAID("ne HTTP/1.1\r\nHost: h\r\n\r\n"), HTTP,
        USUAL},
    {"http, idle", "web", SAID(GET), SAID(GET), HTTP, USUAL},
    {"http, its keys are updated", "web", SAID(GET), SAID(GET), HTTP, UPDATED},
    {"http, half-closed", "web", SAID(GET_56), SAID(""), HTTP, SHUT},
    {"http, it ends", "web", SAID(GET), SAID(""), HTTP, ENDING},
    {"websocket", "web", SAID(HANDSHAKE("h")), SAID(WS_FRAME("\x81", "\x8b", "{\"id\":1234}")), WS,
        USUAL},
    {"frame", "frames", SAID("\0\0\0\x0b{\"id\":1"), SAID("234}"), FRAMES, USUAL},
    {"h2, idle", "h2c", SAID(H2_START H2_GET("\x01")), SAID(H2_GET("\x03")), HTTP, USUAL},
    {"h2, its table", "h2c",
        SAID(H2_START H2_HEAD("\x09", "\x01", "\x05", "\x01") "\x82\x86\x44\x02/x\x41\x01h"),
        SAID(H2_HEAD("\x04", "\x01", "\x05", "\x03") "\x82\x86\xbf\xbe"), HTTP, USUAL},
    {"h2, an answer waits", "h2c",
        SAID(H2_PREFACE H2_HEAD("\x06", "\x04", "\0", "\0") "\0\x04\0\0\0\x05" H2_GET("\x01")),
        SAID(H2_HEAD("\x04", "\x08", "\0", "\x01") "\0\0\1\0"), HTTP, USUAL},
    {"line, late", "lines", SAID("{\"id\":1}\n"), SAID("{\"id\":2}\n"), LINES, LATE},
};
enum { FEW = 4 /* of them, where there are very many runs */ };

static const struct suite {
    int version;
    const char *cipher;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"},
};
enum { SUITES = ARRAY_LEN(suites), SUITES_13 = 3 };

static struct pki_certificate certificate;
static unsigned runs;

/* What was sealed */

enum { SEALS = 1 << 13 /* room for records of a run; a power of 2, and twice what there are */ };

static struct {
    unsigned count;
    bool used[SEALS];
    uint8_t entries[SEALS][TLS_KEY_MAX + TLS_NONCE_SIZE];
} seals;

static void on_sealed(
    void *arg, const uint8_t key[static TLS_KEY_MAX], const uint8_t nonce[static TLS_NONCE_SIZE])
{
    uint8_t entry[TLS_KEY_MAX + TLS_NONCE_SIZE];
    (void)arg;
    memcpy(entry, key, TLS_KEY_MAX);
    memcpy(entry + TLS_KEY_MAX, nonce, TLS_NONCE_SIZE);
    size_t at = (size_t)(key[0] | key[1] << 8) + 31 * (size_t)nonce[TLS_NONCE_SIZE - 1];
    for (at %= SEALS; seals.used[at]; at = (at + 1) % SEALS)
        cr_assert_neq(
            memcmp(seals.entries[at], entry, sizeof(entry)), 0, "a nonce is used a second time");
    memcpy(seals.entries[at], entry, sizeof(entry));
    seals.used[at] = true;
    cr_assert_lt(++seals.count, SEALS / 2);
}

static void begin(void)
{
    static const char *const alpn[] = {"h2", "http/1.1"};
    static struct tls_ticket_keys keys = {.count = 1, .keys = {{.until = UINT64_MAX}}};
    const struct tls_setup setup = {.certificates = &certificate,
        .ncertificates = 1,
        .alpn = {alpn[0], alpn[1]},
        .tickets = 60000, /* which OpenSSL seals */
        .keys = &keys};
    memset(&seals, 0, sizeof(seals));
    runs++;
    tls_client_set_up(&sides[OLD].shardlet, &setup);
    cr_assert_eq(tls_prepare(sides[NEW].shardlet.ctx.tls), 0); /* no client connects to it */
    for (unsigned i = 0; i < SIDES; i++)
        tls_crypto_watch(sides[i].shardlet.ctx.tls->crypto, on_sealed, NULL);
}

/* Clients */

static struct {
    struct tls_client tls;
    char rest[512]; /* that is sealed, and to be sent */
    size_t at;
    size_t n;
} clients[MOVING_MAX];

static bool is(const struct moving_conn *conn, enum moving_how how)
{
    return conn->kind->how == how;
}

static struct client *open_tls(struct moving_conn *conn)
{
    bool updated = is(conn, UPDATED);
    const struct suite *suite = &suites[(conn->index + runs) % (updated ? SUITES_13 : SUITES)];
    const struct tls_wish wish = {
        .version = suite->version,
        .cipher = suite->cipher,
        .alpn = strcmp(conn->kind->listener, "h2c") == 0 ? "\2h2" : NULL,
    };
    struct tls_client *tls = &clients[conn->index].tls;
    *tls = tls_client_connect(&sides[OLD].shardlet, conn->kind->listener, &wish);
    cr_assert_str_eq(SSL_get_cipher_name(tls->ssl), suite->cipher);
    conn->peer = tls->fd;
    return tls->client;
}

static void update_keys(struct moving_conn *conn)
{
    bool asks = (conn->index + runs) % 2 == 0;
    cr_assert_eq(SSL_key_update(clients[conn->index].tls.ssl,
                     asks ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED),
        1);
}

/* Sends up to `n` bytes of what is sealed. */
static void send_rest(struct moving_conn *conn, size_t n)
{
    n = MIN(n, clients[conn->index].n - clients[conn->index].at);
    moving_put(conn, clients[conn->index].rest + clients[conn->index].at, n);
    clients[conn->index].at += n;
}

static void before_tls(struct moving_conn *conn)
{
    const struct moving_kind *kind = conn->kind;
    struct tls_client *tls = &clients[conn->index].tls;
    if (is(conn, UPDATED))
        update_keys(conn);
    if (kind->before.n > 0)
        tls_client_say(tls, kind->before);
    if (is(conn, SHUT))
        cr_assert_eq(shutdown(conn->peer, SHUT_WR), 0);
    if (is(conn, UPDATED))
        update_keys(conn);
    if (kind->after.n > 0)
        tls_client_seal(tls, kind->after);
    if (is(conn, ENDING))
        SSL_shutdown(tls->ssl);
    int n = BIO_read(tls->out, clients[conn->index].rest, sizeof(clients->rest));
    cr_assert_lt(n, (int)sizeof(clients->rest));
    clients[conn->index].n = (size_t)MAX(n, 0);
    clients[conn->index].at = 0;
    if (n > 0)
        send_rest(conn, (conn->index * 7 + runs * 5) % (size_t)n);
}

static void meanwhile_tls(struct moving_conn *conn)
{
    size_t at = clients[conn->index].at;
    if (clients[conn->index].n - at > 1 &&
        send(conn->peer, clients[conn->index].rest + at, 1, MSG_NOSIGNAL) == 1)
        clients[conn->index].at++; /* else it was closed for want of memory */
}

static void after_tls(struct moving_conn *conn)
{
    send_rest(conn, SIZE_MAX);
}

static size_t listen_tls(struct moving_conn *conn, char *out, size_t n)
{
    size_t got = 0;
    int error = tls_client_hear(&clients[conn->index].tls, out, n, &got);
    unsigned long what = error == SSL_ERROR_SSL ? ERR_peek_last_error() : 0;
    /* One that is closed for want of memory has no close_notify. */
    cr_assert(what == 0 || ERR_GET_REASON(what) == SSL_R_UNEXPECTED_EOF_WHILE_READING, "%s: %s",
        conn->kind->name, ERR_error_string(what, NULL));
    cr_assert(error != SSL_ERROR_WANT_READ || BIO_pending(clients[conn->index].tls.out) == 0);
    return got;
}

static void close_tls(struct moving_conn *conn)
{
    bool ended = SSL_get_shutdown(clients[conn->index].tls.ssl) & SSL_RECEIVED_SHUTDOWN;
    cr_assert(ended || !is(conn, ENDING) || conn->lost, "%s: no close_notify", conn->kind->name);
    tls_client_close(&clients[conn->index].tls);
}

static const struct moving_speech *over_tls(unsigned n)
{
    static const struct moving_speech speech = {
        .open = open_tls,
        .before = before_tls,
        .meanwhile = meanwhile_tls,
        .after = after_tls,
        .listen = listen_tls,
        .close = close_tls,
    };
    (void)n;
    return &speech;
}

static struct moving_plan plan = {
    .kinds = kinds, .nkinds = ARRAY_LEN(kinds), .speech = over_tls, .begin = begin, .keys = true};

static void set_up(void)
{
    certificate = pki_make_valid(PKI_EC, "server", "DNS:a.test", NULL);
    moving_refer(&plan);
}

static void tear_down(void)
{
    moving_end();
    pki_free(&certificate);
}

TestSuite(two_shards_tls, .init = set_up, .fini = tear_down, .timeout = 180);

/* Each kind of connection with each suite. */
Test(two_shards_tls, all_connections_go)
{
    const struct moving_run whole = {.fails = -1};
    for (unsigned i = 0; i < SUITES; i++) {
        struct moving_result result = moving_run(&plan, &whole);
        cr_expect(result.closed == 0 && result.missed == 0, "%zu closed, %zu missed", result.closed,
            result.missed);
        cr_expect_geq(result.messages, 8u, "%u", result.messages);
        cr_expect_gt(seals.count, 5 * ARRAY_LEN(kinds));
    }
}

Test(two_shards_tls, cut_at_every_message)
{
    moving_cut_everywhere(&plan, 8);
}

Test(two_shards_tls, every_allocation_fails)
{
    plan.nkinds = FEW;
    moving_fail_everywhere(&plan, 100);
}
