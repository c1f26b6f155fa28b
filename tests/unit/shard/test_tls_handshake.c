#include "frontd/shard/tls/tls_handshake.h"

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <string.h>

#include "frontd/shard/tls/tls_transport.h"
#include "tests/unit/support/counted.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/tls_client.h"

enum { DAY = 86400, TICKETS_MS = 3600 * 1000 };

static struct shardlet shard;
static struct pki_certificate ca, foreign_ca;

static void set_up(void)
{
    shardlet_init(&shard, MOVE_CONF, 0);
    ca = pki_make_valid(PKI_EC, "CA", NULL, NULL);
    foreign_ca = pki_make_valid(PKI_EC, "another CA", NULL, NULL);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
    pki_free(&ca);
    pki_free(&foreign_ca);
}

TestSuite(tls_handshake, .init = set_up, .fini = tear_down);

/* The shard begins anew. */
static void begin(struct shardlet *at, const struct tls_setup *setup)
{
    shardlet_deinit(at);
    shardlet_init(at, MOVE_CONF, 0);
    tls_client_set_up(at, setup);
}

static struct span info_of(const struct tls_client *client)
{
    return tls_transport_info(client->client->transport);
}

static bool says(struct span info, const char *text)
{
    return info.n > 0 && memmem(info.p, info.n, text, strlen(text)) != NULL;
}

/* The alert that such a client gets, and why the shard says that it has failed. 0: it has not. */
static int alert_of(
    const struct tls_setup *setup, const struct tls_wish *wish, enum tls_failure_kind *ret_kind)
{
    char out[100];
    size_t n = 0;
    begin(&shard, setup);
    struct tls_client client = tls_client_open(&shard, "web", wish);
    bool shaken = tls_client_shake(&client, &shard);
    int alert = tls_client_alert();
    if (shaken) { /* in TLS 1.3 the client has done its part before its certificate is looked at */
        int error = tls_client_listen(&client, &shard, out, sizeof(out), &n);
        alert = error == SSL_ERROR_SSL ? tls_client_alert() : 0;
        cr_expect(error == SSL_ERROR_WANT_READ || alert != 0);
    }
    *ret_kind = shard.ctx.tls->failure.kind;
    cr_expect_eq(counted_handshakes(&shard.ctx, false), alert == 0 ? 0u : 1u);
    cr_expect_eq(counted_handshakes(&shard.ctx, true), alert == 0 ? 1u : 0u);
    tls_client_close(&client);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
    return alert;
}

/* What OpenSSL has for that certificate of the first listener. */
static SSL_CTX *context_of(uint32_t certificate)
{
    return shard.ctx.tls->contexts[0].certificates[certificate];
}

Test(tls_handshake, certificate_by_name)
{
    struct pki_certificate made[] = {
        pki_make_valid(PKI_EC, "default", "DNS:default.test", &ca),
        pki_make_valid(PKI_RSA, "wild", "DNS:*.a.test,DNS:a.test", &ca),
        pki_make_valid(PKI_EC, "exact", "IP:192.0.2.1,DNS:www.A.test", &ca),
    };
    const struct tls_setup setup = {.certificates = made, .ncertificates = ARRAY_LEN(made)};
    static const struct {
        const char *name;
        size_t certificate;
    } rows[] = {
        {NULL, 0},
        {"default.test", 0},
        {"unknown.test", 0},
        {"a.test", 1},
        {"x.a.test", 1},
        {"X.A.TEST", 1},
        {"www.a.test", 2},
        {"WWW.a.test", 2},
        {"x.y.a.test", 0},
    };
    begin(&shard, &setup);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            const struct tls_wish wish = {.name = rows[i].name, .version = version, .trusts = &ca};
            char sni[64];
            struct tls_client client = tls_client_connect(&shard, "web", &wish);
            const X509 *shown = SSL_get0_peer_certificate(client.ssl);
            cr_expect_eq(X509_cmp(shown, made[rows[i].certificate].x509), 0, "row %zu", i);
            snprintf(sni, sizeof(sni), "\"sni\":\"%s\"", rows[i].name);
            cr_expect_eq(says(info_of(&client), sni), rows[i].name != NULL);
            for (uint32_t j = 0; j < ARRAY_LEN(made); j++)
                cr_expect_null(SSL_CTX_get_keylog_callback(context_of(j)));
            tls_client_close(&client);
        }
    }
    shardlet_turn(&shard);
    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        pki_free(&made[i]);
}

/* It takes several records, of which OpenSSL has a buffer for one. */
Test(tls_handshake, large_certificate)
{
    enum { NAMES = 200, NAME = 40 };
    char names[NAMES * NAME] = "DNS:a.test";
    for (size_t i = 1, n = strlen(names); i < NAMES; i++)
        n += (size_t)snprintf(names + n, sizeof(names) - n, ",DNS:number-%03zu.of-many.test", i);
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", names, &ca);
    const struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    begin(&shard, &setup);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        const struct tls_wish wish = {.version = version, .trusts = &ca};
        struct tls_client client = tls_client_connect(&shard, "web", &wish);
        cr_expect_eq(X509_cmp(SSL_get0_peer_certificate(client.ssl), server.x509), 0);
        tls_client_close(&client);
    }
    shardlet_turn(&shard);
    pki_free(&server);
}

Test(tls_handshake, alpn)
{
    static const struct {
        const char *offered;
        const char *agreed; /* "": none */
        int alert;
    } rows[] = {
        {NULL, "", 0},
        {"\x08http/1.1", "http/1.1", 0},
        {"\x03two\x03one", "one", 0},
        {"\x03xyz\x08http/1.1", "http/1.1", 0},
        {"\x03xyz", "", SSL_AD_NO_APPLICATION_PROTOCOL},
        {"\x08HTTP/1.1", "", SSL_AD_NO_APPLICATION_PROTOCOL},
    };
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tls_setup setup = {.certificates = &server,
            .ncertificates = 1,
            .alpn = {i == 2 ? "one" : "http/1.1", i == 2 ? "two" : NULL}};
        const struct tls_wish wish = {.alpn = rows[i].offered};
        enum tls_failure_kind kind;
        cr_expect_eq(alert_of(&setup, &wish, &kind), rows[i].alert, "row %zu", i);
        if (rows[i].alert != 0) {
            cr_expect_eq(kind, TLS_FAILURE_NOT_SHARED);
            continue;
        }
        struct tls_client client = tls_client_connect(&shard, "web", &wish);
        const unsigned char *name;
        unsigned n;
        char text[64];
        SSL_get0_alpn_selected(client.ssl, &name, &n);
        cr_expect(n == strlen(rows[i].agreed) && (n == 0 || memcmp(name, rows[i].agreed, n) == 0));
        snprintf(text, sizeof(text), "\"alpn\":\"%s\"", rows[i].agreed);
        cr_expect_eq(says(info_of(&client), text), n > 0);
        tls_client_close(&client);
        shardlet_turn(&shard);
    }
    pki_free(&server);
}

Test(tls_handshake, client_certificates)
{
    struct pki_certificate servers[] = {pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca),
        pki_make_valid(PKI_EC, "server", "DNS:b.test", &ca)};
    struct pki_certificate good = pki_make_valid(
        PKI_EC, "Ann \xc3\xa9", "DNS:ann.test,email:ann@a.test,URI:urn:ann,IP:192.0.2.9", &ca);
    struct pki_certificate foreign = pki_make_valid(PKI_EC, "Bob", "DNS:bob.test", &foreign_ca);
    struct pki_certificate old = pki_make(PKI_EC, "Ann", "DNS:a.test", -2 * DAY, -DAY, &ca);
    struct pki_certificate early = pki_make(PKI_EC, "Ann", "DNS:a.test", DAY, 2 * DAY, &ca);
    const struct {
        enum conf_client_auth auth;
        const struct pki_certificate *shown;
        int alert12;
        int alert13;
    } rows[] = {
        {CONF_CLIENT_AUTH_NONE, NULL, 0, 0},
        {CONF_CLIENT_AUTH_NONE, &foreign, 0, 0},
        {CONF_CLIENT_AUTH_OPTIONAL, NULL, 0, 0},
        {CONF_CLIENT_AUTH_OPTIONAL, &good, 0, 0},
        {CONF_CLIENT_AUTH_OPTIONAL, &foreign, SSL_AD_UNKNOWN_CA, SSL_AD_UNKNOWN_CA},
        {CONF_CLIENT_AUTH_REQUIRED, NULL, SSL_AD_HANDSHAKE_FAILURE, SSL_AD_CERTIFICATE_REQUIRED},
        {CONF_CLIENT_AUTH_REQUIRED, &good, 0, 0},
        {CONF_CLIENT_AUTH_REQUIRED, &foreign, SSL_AD_UNKNOWN_CA, SSL_AD_UNKNOWN_CA},
        {CONF_CLIENT_AUTH_REQUIRED, &old, SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_EXPIRED},
        {CONF_CLIENT_AUTH_REQUIRED, &early, SSL_AD_BAD_CERTIFICATE, SSL_AD_BAD_CERTIFICATE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            const bool asked = rows[i].auth != CONF_CLIENT_AUTH_NONE;
            const struct tls_setup setup = {.certificates = servers,
                .ncertificates = ARRAY_LEN(servers),
                .client_ca = asked ? &ca : NULL,
                .client_auth = rows[i].auth};
            const struct tls_wish wish = {.certificate = rows[i].shown,
                .version = version,
                .name = version == TLS1_2_VERSION ? "a.test" : "b.test"};
            int alert = version == TLS1_2_VERSION ? rows[i].alert12 : rows[i].alert13;
            enum tls_failure_kind kind;
            cr_expect_eq(alert_of(&setup, &wish, &kind), alert, "row %zu, %x", i, version);
            if (alert != 0) {
                cr_expect_eq(kind, TLS_FAILURE_CERTIFICATE, "row %zu", i);
                continue;
            }
            struct tls_client client = tls_client_connect(&shard, "web", &wish);
            struct span info = info_of(&client);
            bool known = rows[i].shown == &good;
            cr_expect_eq(
                says(info, "\"client\":{\"subject\":\"CN=Ann \xc3\xa9\",\"sans\":[\"DNS:ann.test\","
                           "\"email:ann@a.test\",\"URI:urn:ann\",\"IP:192.0.2.9\"],\"serial\":\""),
                known, "%.*s", (int)info.n, info.p);
            cr_expect_eq(says(info, "\"client\""), known);
            tls_client_close(&client);
            shardlet_turn(&shard);
        }
    }
    pki_free(&servers[0]);
    pki_free(&servers[1]);
    pki_free(&good);
    pki_free(&foreign);
    pki_free(&old);
    pki_free(&early);
}

Test(tls_handshake, nothing_shared)
{
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    enum tls_failure_kind kind;
    struct tls_wish wish = {.version = TLS1_2_VERSION, .cipher = "ECDHE-RSA-AES128-GCM-SHA256"};
    cr_expect_eq(alert_of(&setup, &wish, &kind), SSL_AD_HANDSHAKE_FAILURE);
    cr_expect_eq(kind, TLS_FAILURE_NOT_SHARED);
    wish.cipher = "ECDHE-ECDSA-AES128-SHA"; /* CBC */
    cr_expect_eq(alert_of(&setup, &wish, &kind), SSL_AD_HANDSHAKE_FAILURE);
    wish.cipher = NULL;
    setup.min_version = CONF_TLS_1_3;
    cr_expect_eq(alert_of(&setup, &wish, &kind), SSL_AD_PROTOCOL_VERSION);
    cr_expect_eq(kind, TLS_FAILURE_NOT_SHARED);
    pki_free(&server);
}

/* The client does not like the server's certificate: that is counted, and the log says what. */
Test(tls_handshake, client_refuses)
{
    struct pki_certificate rows[] = {
        pki_make_valid(PKI_EC, "server", "DNS:a.test", &foreign_ca),
        pki_make(PKI_EC, "server", "DNS:a.test", -2 * DAY, -DAY, &ca),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct tls_setup setup = {.certificates = &rows[i], .ncertificates = 1};
        const struct tls_wish wish = {.trusts = &ca};
        begin(&shard, &setup);
        struct tls_client client = tls_client_open(&shard, "web", &wish);
        cr_expect_not(tls_client_shake(&client, &shard));
        shardlet_turn(&shard);
        cr_expect_eq(shard.ctx.tls->failure.kind, TLS_FAILURE_ALERT);
        cr_expect_eq(strncmp(shard.ctx.tls->failure.text,
                         i == 0 ? "tlsv1 alert unknown ca" : "sslv3 alert certificate expired", 15),
            0, "%s", shard.ctx.tls->failure.text);
        cr_expect_eq(counted_handshakes(&shard.ctx, false), 1u);
        tls_client_close(&client);
        shardlet_turn(&shard);
        cr_expect_eq(shard.ctx.open, 0u);
        pki_free(&rows[i]);
    }
}

static unsigned tickets; /* that have come */

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    SSL_SESSION **place = SSL_get_app_data(ssl);
    tickets++;
    SSL_SESSION_free(*place);
    *place = session;
    return 1;
}

/* Connects and takes the ticket that it is given, if any. Returns whether it has resumed. */
static bool resumes(struct tls_wish *wish, const char *listener, SSL_SESSION **ret_session)
{
    char out[100];
    size_t n = 0;
    tickets = 0;
    struct tls_client client = tls_client_open(&shard, listener, wish);
    SSL_CTX_set_session_cache_mode(
        client.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(client.ctx, keep_session);
    SSL_set_app_data(client.ssl, ret_session);
    cr_assert(tls_client_shake(&client, &shard));
    tls_client_say(&client, SPAN("OPTIONS /rpc HTTP/1.1\r\nHost: h\r\n\r\n"));
    tls_client_listen(&client, &shard, out, sizeof(out), &n);
    cr_expect(n > 0 && out[0] == 'H', "%.*s", (int)n, out);
    bool reused = SSL_session_reused(client.ssl);
    if (SSL_version(client.ssl) == TLS1_2_VERSION) { /* which does not tell of a renewed ticket */
        SSL_SESSION_free(*ret_session);
        *ret_session = SSL_get1_session(client.ssl);
    }
    SSL_shutdown(client.ssl);
    tls_client_close(&client);
    shardlet_turn(&shard);
    return reused;
}

static struct tls_ticket_key ticket_key(uint8_t number)
{
    struct tls_ticket_key key = {.made = tls_tickets_now(), .until = UINT64_MAX};
    memset(key.name, number, sizeof(key.name));
    memset(key.aes, number + 1, sizeof(key.aes));
    memset(key.hmac, number + 2, sizeof(key.hmac));
    return key;
}

/* What tickets are good for: another shard, after other keys have come, and not without them. */
Test(tls_handshake, tickets)
{
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    struct pki_certificate ann = pki_make_valid(PKI_EC, "Ann", "DNS:ann.test", &ca);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_ticket_keys keys = {.count = 1, .keys = {ticket_key(1)}};
        struct tls_setup setup = {.certificates = &server,
            .ncertificates = 1,
            .tickets = TICKETS_MS,
            .client_ca = &ca,
            .client_auth = CONF_CLIENT_AUTH_OPTIONAL,
            .keys = &keys};
        struct tls_wish wish = {.version = version, .certificate = &ann, .name = "a.test"};
        SSL_SESSION *session = NULL;
        begin(&shard, &setup);
        cr_expect_not(resumes(&wish, "web", &session));
        cr_assert_not_null(session);
        cr_expect_eq(tickets, 1u);
        cr_expect_eq(SSL_SESSION_get_ticket_lifetime_hint(session), TICKETS_MS / 1000);

        begin(&shard, &setup); /* another shard */
        wish.session = session;
        SSL_SESSION_up_ref(session);
        cr_expect(resumes(&wish, "web", &session));
        cr_expect_eq(counted_resumed(&shard.ctx), 1u);
        struct tls_client client = tls_client_connect(&shard, "web", &wish);
        cr_expect(says(info_of(&client), "\"subject\":\"CN=Ann\""), "of the first handshake");
        cr_expect(says(info_of(&client), "\"sni\":\"a.test\""));
        tls_client_close(&client);
        shardlet_turn(&shard);
        SSL_SESSION_free(wish.session);

        keys = (struct tls_ticket_keys){2, {ticket_key(7), ticket_key(1)}}; /* rotated */
        wish.session = session;
        SSL_SESSION_up_ref(session);
        cr_expect(resumes(&wish, "web", &session), "by the old key");
        SSL_SESSION_free(wish.session);
        keys.count = 1; /* the old one is gone, but it was renewed */
        wish.session = session;
        SSL_SESSION_up_ref(session);
        cr_expect(resumes(&wish, "web", &session), "by the new key");
        SSL_SESSION_free(wish.session);

        wish.session = session;
        SSL_SESSION_up_ref(session);
        setup.client_auth = CONF_CLIENT_AUTH_REQUIRED;
        begin(&shard, &setup);
        cr_expect_not(resumes(&wish, "web", &session), "clients are verified in another way");
        SSL_SESSION_free(wish.session);

        wish.session = session;
        SSL_SESSION_up_ref(session);
        keys.keys[0] = ticket_key(9);
        cr_expect_not(resumes(&wish, "web", &session), "by an unknown key");
        SSL_SESSION_free(wish.session);

        wish.session = session;
        keys.count = 0;
        SSL_SESSION_up_ref(session);
        cr_expect_not(resumes(&wish, "web", &session), "without any key");
        cr_expect(session == wish.session || !SSL_SESSION_has_ticket(session), "nor a ticket");
        SSL_SESSION_free(wish.session);
        SSL_SESSION_free(session);
    }
    pki_free(&server);
    pki_free(&ann);
}

static unsigned begun(const struct tls *tls)
{
    return tls->handshakes;
}

static void expect_most(const char *conf, unsigned most)
{
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    const struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    struct shardlet other;
    shardlet_init(&other, conf, 1);
    tls_client_set_up(&other, &setup);
    cr_expect_eq(other.ctx.tls->most, most);
    shardlet_deinit(&other);
    pki_free(&server);
}

/* A quarter of the memory, at most. */
Test(tls_handshake, how_many)
{
    expect_most(MOVE_CONF_LIMITS("memory: 16MiB") MOVE_CONF_REST, 87);
    expect_most(MOVE_CONF_LIMITS("memory: 187MiB") MOVE_CONF_REST, 1018);
    expect_most(MOVE_CONF_LIMITS("memory: 189MiB") MOVE_CONF_REST, TLS_HANDSHAKES_MAX);
}

/* Many that have come at once are not all begun in one turn: each takes more than 10 us. */
Test(tls_handshake, turns_are_short)
{
    static struct tls_client clients[50];
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    const struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    const struct tls_wish wish = {0};
    begin(&shard, &setup);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = tls_client_open(&shard, "web", &wish);
        SSL_do_handshake(clients[i].ssl);
        tls_client_send(&clients[i], SIZE_MAX);
    }
    shardlet_step(&shard);
    cr_expect(begun(shard.ctx.tls) > 0 && begun(shard.ctx.tls) < ARRAY_LEN(clients));
    cr_expect(tls_unfinished(shard.ctx.tls), "the loop does not wait");
    for (size_t i = 0; i < ARRAY_LEN(clients) && tls_unfinished(shard.ctx.tls); i++)
        shardlet_step(&shard);
    cr_expect_eq(begun(shard.ctx.tls), ARRAY_LEN(clients));
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        tls_client_close(&clients[i]);
    shardlet_turn(&shard);
    pki_free(&server);
}

/* At the bound, those that come wait unread, until one of the others has been silent for a while.
 */
Test(tls_handshake, bounded)
{
    enum { MOST = 20, MORE = 3 };
    static struct tls_client clients[MOST + MORE];
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    const struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    const struct tls_wish wish = {0};
    fake_clock_stop();
    begin(&shard, &setup);
    struct tls *tls = shard.ctx.tls;
    tls->most = MOST;
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = tls_client_open(&shard, "web", &wish);
        SSL_do_handshake(clients[i].ssl);
        tls_client_send(&clients[i], SIZE_MAX);
        shardlet_turn(&shard);
    }
    cr_expect_eq(begun(tls), (unsigned)MOST);
    cr_expect(tls->blocked && !tls_unfinished(tls), "the loop waits");
    struct client *last = clients[MOST].client;
    cr_expect_eq(last->events & (EPOLLIN | EPOLLOUT), EPOLLIN, "nothing more has come");
    cr_assert_eq(send(clients[MOST].fd, "\x16", 1, MSG_NOSIGNAL), 1);
    shardlet_turn(&shard);
    cr_expect_eq(last->events & (EPOLLIN | EPOLLOUT), 0, "more has come");
    /* One ends by itself. */
    cr_expect(tls_client_shake(&clients[10], &shard));
    shardlet_turn(&shard);
    cr_expect_eq(begun(tls), (unsigned)MOST);
    cr_expect_not(clients[10].client->transport->opening);
    cr_expect_neq(last->events & EPOLLIN, 0, "its hello was answered");
    /* The oldest are given up. */
    fake_clock_advance(TLS_HANDSHAKE_SILENT_MS);
    shardlet_turn(&shard);
    cr_expect_eq(counted_handshakes(&shard.ctx, false), MORE - 1u);
    cr_expect_eq(tls->failure.kind, TLS_FAILURE_SILENT);
    cr_expect(list_empty(&tls->waiting) && begun(tls) == MOST);
    cr_expect(clients[0].client->state > CLIENT_OPEN && clients[5].client->state == CLIENT_OPEN);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        tls_client_close(&clients[i]);
    shardlet_turn(&shard);
    cr_expect_eq(begun(tls), 0u);
    pki_free(&server);
}

/* A client whose hello has waited for its turn is not silent meanwhile. */
Test(tls_handshake, waiting_is_no_silence)
{
    enum { PART = TLS_HANDSHAKE_SILENT_MS * 6 / 10 };
    struct tls_client clients[3];
    struct pki_certificate server = pki_make_valid(PKI_EC, "server", "DNS:a.test", &ca);
    const struct tls_setup setup = {.certificates = &server, .ncertificates = 1};
    const struct tls_wish wish = {0};
    fake_clock_stop();
    begin(&shard, &setup);
    struct tls *tls = shard.ctx.tls;
    tls->most = 1;
    for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
        clients[i] = tls_client_open(&shard, "web", &wish);
        SSL_do_handshake(clients[i].ssl);
        tls_client_send(&clients[i], SIZE_MAX);
        shardlet_turn(&shard);
    }
    fake_clock_advance(PART);
    cr_expect(tls_client_shake(&clients[0], &shard));
    shardlet_turn(&shard);
    cr_expect(begun(tls) == 1 && !list_empty(&tls->waiting), "the second one has begun");
    fake_clock_advance(PART);
    shardlet_turn(&shard);
    cr_expect_eq(counted_handshakes(&shard.ctx, false), 0u, "it was answered a moment ago");
    fake_clock_advance(PART);
    shardlet_turn(&shard);
    cr_expect_eq(counted_handshakes(&shard.ctx, false), 1u);
    cr_expect(list_empty(&tls->waiting), "the third one has its place");
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        tls_client_close(&clients[i]);
    shardlet_turn(&shard);
    pki_free(&server);
}
