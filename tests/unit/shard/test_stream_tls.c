#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/net/framed.h"
#include "frontd/shard/net/stream_tls.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/pki.h"
#include "tests/unit/support/shardlet.h"

enum { STEPS = 2000, SEAT = 4, BULK = 1 << 20, PEM_MAX = 4096 };

static struct pki_certificate ca, other_ca, worker_cert, expired, front_cert;

static void make_certificates(void)
{
    ca = pki_make_valid(PKI_EC, "ca", NULL, NULL);
    other_ca = pki_make_valid(PKI_EC, "other", NULL, NULL);
    worker_cert = pki_make_valid(
        PKI_EC, "worker", "DNS:worker.test,DNS:*.wild.test,IP:127.0.0.1,IP:::1", &ca);
    expired = pki_make(PKI_EC, "worker", "DNS:worker.test", -7200, -3600, &ca);
    front_cert = pki_make_valid(PKI_EC, "front", "DNS:front.test", &ca);
}

static void free_certificates(void)
{
    pki_free(&ca);
    pki_free(&other_ca);
    pki_free(&worker_cert);
    pki_free(&expired);
    pki_free(&front_cert);
}

TestSuite(stream_tls, .init = make_certificates, .fini = free_certificates);

static const struct span nothing;

Test(stream_tls, contexts)
{
    char both[2 * PEM_MAX], broken[PEM_MAX];
    struct span one = pki_cert(&ca), other = pki_cert(&other_ca);
    cr_assert(one.n < PEM_MAX && other.n < PEM_MAX);
    memcpy(both, one.p, one.n);
    memcpy(both + one.n, other.p, other.n);
    struct span two = {both, one.n + other.n};
    memcpy(broken, one.p, one.n);
    broken[one.n / 2] = '!';
    struct span wrong = {broken, one.n};
    struct span cut = {one.p, one.n / 2};
    const struct {
        struct span ca, cert, key;
        int r;
    } rows[] = {
        {pki_cert(&ca), nothing, nothing, 0},
        {two, nothing, nothing, 0},
        {pki_cert(&ca), pki_cert(&front_cert), pki_key(&front_cert), 0},
        {pki_cert(&ca), two, pki_key(&ca), 0}, /* a chain */
        {nothing, nothing, nothing, -EINVAL},
        {SPAN("no certificate"), nothing, nothing, -EINVAL},
        {wrong, nothing, nothing, -EINVAL},
        {cut, nothing, nothing, -EINVAL},
        {pki_cert(&ca), pki_cert(&front_cert), nothing, -EINVAL},
        {pki_cert(&ca), pki_cert(&front_cert), pki_key(&worker_cert), -EINVAL},
        {pki_cert(&ca), pki_key(&front_cert), pki_key(&front_cert), -EINVAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct ssl_ctx_st *context = NULL;
        int r = stream_tls_context(rows[i].ca, rows[i].cert, rows[i].key, &context);
        cr_expect_eq(r, rows[i].r, "row %zu: %d", i, r);
        cr_expect_eq(context != NULL, r == 0);
        cr_expect_eq(ERR_peek_error(), 0ul, "row %zu", i);
        stream_tls_context_free(context);
    }
}

/* A server of OpenSSL's on the other end of a socket. */
struct server {
    SSL_CTX *context;
    SSL *ssl;
    int fd;
};

static void server_init(
    struct server *server, int fd, const struct pki_certificate *cert, int version, bool asks)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    cr_assert_eq(SSL_CTX_use_certificate(context, cert->x509), 1);
    cr_assert_eq(SSL_CTX_use_PrivateKey(context, cert->key), 1);
    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (asks) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca.x509);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    SSL_set_accept_state(ssl);
    *server = (struct server){.context = context, .ssl = ssl, .fd = fd};
}

static void server_deinit(struct server *server)
{
    SSL_free(server->ssl);
    SSL_CTX_free(server->context);
    close(server->fd);
    ERR_clear_error();
}

/* A client under test, and its server, with sockets that take little at a time. */
struct pair {
    struct ssl_ctx_st *context;
    struct ssl_st *tls;
    int fd;
    struct server server;
};

static void pair_init(struct pair *pair, struct span trusted, const char *name, struct span cert,
    struct span key, const struct pki_certificate *of, int version, bool asks)
{
    int fds[2], small = 4096;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    cr_assert_eq(stream_tls_context(trusted, cert, key, &pair->context), 0);
    pair->fd = fds[0];
    pair->tls = stream_tls_new(pair->context, fds[0], name);
    cr_assert_not_null(pair->tls);
    server_init(&pair->server, fds[1], of, version, asks);
}

static void pair_deinit(struct pair *pair)
{
    stream_tls_free(pair->tls);
    stream_tls_context_free(pair->context);
    close(pair->fd);
    server_deinit(&pair->server);
}

static int shake_hands(struct pair *pair, const char **ret_why)
{
    int r = -EAGAIN;
    for (int i = 0; i < STEPS && r == -EAGAIN; i++) {
        r = stream_tls_connect(pair->tls, ret_why);
        ERR_clear_error();
        SSL_do_handshake(pair->server.ssl);
        ERR_clear_error();
    }
    return r;
}

static int server_write(struct server *server, const char *p, size_t n)
{
    int r = SSL_write(server->ssl, p, (int)n);
    ERR_clear_error();
    return MAX(r, 0);
}

static int server_read(struct server *server, char *room, size_t n)
{
    int r = SSL_read(server->ssl, room, (int)n);
    ERR_clear_error();
    return MAX(r, 0);
}

/* Both ways at once, much more than fits into the sockets. */
static void exchange(struct pair *pair)
{
    static char sent[BULK], to_server[BULK], to_client[BULK + STREAM_TLS_ROOM];
    size_t there = 0, here = 0, out = 0, back = 0;
    unsigned full = 0;
    for (size_t i = 0; i < BULK; i++)
        sent[i] = (char)(i * 31 >> 4);
    while (there < BULK || here < BULK) {
        ssize_t n = out < BULK ? stream_tls_write(pair->tls, sent + out, BULK - out) : 0;
        cr_assert(n >= 0 || errno == EAGAIN);
        full += n < 0 && stream_tls_wants_room(pair->tls);
        out += (size_t)MAX(n, 0);
        if (back < BULK)
            back += (size_t)server_write(&pair->server, sent + back, BULK - back);
        there += (size_t)server_read(&pair->server, to_server + there, BULK - there);
        n = stream_tls_read(pair->tls, to_client + here, sizeof(to_client) - here);
        cr_assert(n > 0 || errno == EAGAIN, "%zd %d", n, errno);
        here += (size_t)MAX(n, 0);
    }
    cr_expect_gt(full, 0u, "the socket was never full");
    cr_expect(memcmp(sent, to_server, BULK) == 0 && memcmp(sent, to_client, BULK) == 0);
}

Test(stream_tls, both_versions)
{
    const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    const char *names[] = {"worker.test", "a.wild.test", "127.0.0.1", "::1"};
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            struct pair pair;
            const char *why = "";
            pair_init(&pair, pki_cert(&ca), names[i], pki_cert(&front_cert), pki_key(&front_cert),
                &worker_cert, versions[v], true);
            cr_assert_eq(shake_hands(&pair, &why), 0, "%s: %s", names[i], why);
            const char *sni = SSL_get_servername(pair.server.ssl, TLSEXT_NAMETYPE_host_name);
            cr_expect(i < 2 ? sni != NULL && strcmp(sni, names[i]) == 0 : sni == NULL);
            if (i == 0)
                exchange(&pair);
            pair_deinit(&pair);
        }
    }
}

Test(stream_tls, refused)
{
    const struct {
        const char *name;
        const struct pki_certificate *trusted, *of;
        const char *why;
    } rows[] = {
        {"worker.test", &other_ca, &worker_cert, "unable to get local issuer certificate"},
        {"elsewhere.test", &ca, &worker_cert, "hostname mismatch"},
        {"a.b.wild.test", &ca, &worker_cert, "hostname mismatch"},
        {"127.0.0.2", &ca, &worker_cert, "IP address mismatch"},
        {"worker.test", &ca, &expired, "certificate has expired"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct pair pair;
        const char *why = "";
        pair_init(&pair, pki_cert(rows[i].trusted), rows[i].name, nothing, nothing, rows[i].of,
            TLS1_3_VERSION, false);
        cr_expect_eq(shake_hands(&pair, &why), -EPROTO, "row %zu", i);
        cr_expect_str_eq(why, rows[i].why, "row %zu: %s", i, why);
        pair_deinit(&pair);
    }
}

/* A worker that wants a certificate says so in the handshake of TLS 1.2, after it in that of 1.3.
 */
Test(stream_tls, without_the_certificate_that_is_asked_for)
{
    char room[STREAM_TLS_ROOM];
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct pair pair;
        const char *why = "";
        pair_init(
            &pair, pki_cert(&ca), "worker.test", nothing, nothing, &worker_cert, version, true);
        int r = shake_hands(&pair, &why);
        if (version == TLS1_3_VERSION) {
            cr_expect_eq(r, 0);
            cr_expect(stream_tls_read(pair.tls, room, sizeof(room)) < 0 && errno == EPROTO);
            why = stream_tls_error_text(pair.tls, -EPROTO);
            cr_expect_str_eq(why, "tlsv13 alert certificate required");
        } else {
            cr_expect_eq(r, -EPROTO);
            cr_expect(strstr(why, "alert") != NULL, "%s", why);
        }
        pair_deinit(&pair);
    }
}

Test(stream_tls, no_handshake)
{
    const struct {
        struct span said;
        const char *why;
        int r;
    } rows[] = {
        {SPAN(""), "the peer closed it in the TLS handshake", -ECONNRESET},
        {SPAN("HTTP/1.1 400 Bad Request\r\n\r\n"), "wrong version number", -EPROTO},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct pair pair;
        const char *why = "";
        pair_init(&pair, pki_cert(&ca), "worker.test", nothing, nothing, &worker_cert,
            TLS1_3_VERSION, false);
        cr_assert_eq(stream_tls_connect(pair.tls, &why), -EAGAIN);
        cr_assert_eq(
            write(pair.server.fd, rows[i].said.p, rows[i].said.n), (ssize_t)rows[i].said.n);
        shutdown(pair.server.fd, SHUT_WR);
        cr_expect_eq(stream_tls_connect(pair.tls, &why), rows[i].r, "row %zu", i);
        cr_expect_str_eq(why, rows[i].why, "row %zu: %s", i, why);
        pair_deinit(&pair);
    }
}

/* The end, and what is wrong, is told after the bytes that came before it. */
Test(stream_tls, ends)
{
    enum { CLOSE_NOTIFY, BARE_FIN, GARBAGE, ENDS };
    const int wanted[ENDS] = {0, ECONNRESET, EPROTO};
    char room[2 * STREAM_TLS_ROOM];
    for (int end = 0; end < ENDS; end++) {
        struct pair pair;
        const char *why = "";
        pair_init(&pair, pki_cert(&ca), "worker.test", nothing, nothing, &worker_cert,
            TLS1_3_VERSION, false);
        cr_assert_eq(shake_hands(&pair, &why), 0, "%s", why);
        cr_assert_eq(server_write(&pair.server, "news", 4), 4);
        if (end == CLOSE_NOTIFY)
            SSL_shutdown(pair.server.ssl);
        if (end == GARBAGE)
            cr_assert_eq(
                write(pair.server.fd, "\x17\x03\x03\0\x20 0123456789abcdef0123456789abcde", 37),
                37);
        else
            shutdown(pair.server.fd, SHUT_WR);
        cr_assert_eq(stream_tls_read(pair.tls, room, sizeof(room)), 4);
        cr_expect_eq(errno, wanted[end], "%d: %d", end, errno);
        ssize_t n = stream_tls_read(pair.tls, room, sizeof(room));
        cr_expect(end == CLOSE_NOTIFY ? n == 0 : n == -1 && errno != EAGAIN, "%d: %zd", end, n);
        pair_deinit(&pair);
    }
}

Test(stream_tls, says_that_it_ends)
{
    struct pair pair;
    char byte;
    const char *why = "";
    pair_init(
        &pair, pki_cert(&ca), "worker.test", nothing, nothing, &worker_cert, TLS1_3_VERSION, false);
    cr_assert_eq(shake_hands(&pair, &why), 0, "%s", why);
    stream_tls_shut(pair.tls);
    cr_expect_eq(SSL_read(pair.server.ssl, &byte, 1), 0);
    cr_expect_eq(SSL_get_shutdown(pair.server.ssl), SSL_RECEIVED_SHUTDOWN);
    pair_deinit(&pair);
}

/* What the owner of a stream has been told. */
static struct {
    struct stream stream;
    unsigned connected, frames;
    const char *broken;
    bool closed;
} told;

static void on_connected(struct stream *stream)
{
    (void)stream;
    told.connected++;
}

static void on_frame(struct stream *stream, const struct frame *frame)
{
    (void)stream;
    told.frames += frame->head.type == FRAME_PONG;
}

static void on_broken(struct stream *stream, const char *why)
{
    told.broken = why;
    stream_close(stream);
}

static void on_closed(struct stream *stream)
{
    (void)stream;
    told.closed = true;
}

static const struct stream_ops ops = {
    .connected = on_connected, .frame = on_frame, .broken = on_broken, .closed = on_closed};

/* A stream connects when the handshake is done, its frames go by it, and it ends with its peer. */
Test(stream_tls, of_a_stream)
{
    struct shardlet shardlet;
    struct pair pair;
    char bytes[FRAME_HEAD_SIZE];
    const struct frame_head ping = {.type = FRAME_PING}, pong = {.type = FRAME_PONG};
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    memset(&told, 0, sizeof(told));
    pair_init(
        &pair, pki_cert(&ca), "worker.test", nothing, nothing, &worker_cert, TLS1_3_VERSION, false);
    cr_assert_eq(stream_open(&told.stream, &shardlet.ctx, &ops, pair.fd, true), 0);
    stream_use_tls(&told.stream, pair.tls);
    cr_assert_not_null(stream_add(&told.stream, &ping));
    for (int i = 0; i < STEPS && told.connected == 0; i++) {
        shardlet_turn(&shardlet);
        SSL_do_handshake(pair.server.ssl);
        ERR_clear_error();
    }
    cr_assert_eq(told.connected, 1u);
    int n = 0;
    for (int i = 0; i < STEPS && n == 0; i++) {
        stream_flush(&told.stream);
        shardlet_turn(&shardlet);
        n = server_read(&pair.server, bytes, sizeof(bytes));
    }
    cr_assert_eq(n, FRAME_HEAD_SIZE);
    frame_head_write(&pong, (uint8_t *)bytes);
    cr_assert_eq(server_write(&pair.server, bytes, sizeof(bytes)), (int)sizeof(bytes));
    for (int i = 0; i < STEPS && told.frames == 0; i++)
        shardlet_turn(&shardlet);
    cr_expect_eq(told.frames, 1u);
    SSL_shutdown(pair.server.ssl);
    for (int i = 0; i < STEPS && !told.closed; i++)
        shardlet_turn(&shardlet);
    cr_expect(told.closed && told.connected == 1);
    cr_expect_str_eq(told.broken, "the peer closed it");
    stream_tls_context_free(pair.context);
    server_deinit(&pair.server);
    shardlet_deinit(&shardlet);
}

/* A peer that is not the worker: the owner hears why, and was never connected. */
Test(stream_tls, of_a_stream_that_is_refused)
{
    struct shardlet shardlet;
    struct pair pair;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    memset(&told, 0, sizeof(told));
    pair_init(&pair, pki_cert(&other_ca), "worker.test", nothing, nothing, &worker_cert,
        TLS1_3_VERSION, false);
    cr_assert_eq(stream_open(&told.stream, &shardlet.ctx, &ops, pair.fd, true), 0);
    stream_use_tls(&told.stream, pair.tls);
    for (int i = 0; i < STEPS && !told.closed; i++) {
        shardlet_turn(&shardlet);
        SSL_do_handshake(pair.server.ssl);
        ERR_clear_error();
    }
    cr_expect(told.closed && told.connected == 0);
    cr_expect_str_eq(told.broken, "unable to get local issuer certificate");
    stream_tls_context_free(pair.context);
    server_deinit(&pair.server);
    shardlet_deinit(&shardlet);
}
