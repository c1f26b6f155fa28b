#include "frontd/shard/tls/tls_transport.h"

#include <criterion/criterion.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/push/push.h"
#include "tests/unit/support/counted.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/tls_client.h"

enum { OUT_MAX = 1 << 20, BULK = 300000, SMALL_BUFFER = 4608 };

static struct shardlet from, to;
static struct pki_certificate ec, rsa;
static char out[OUT_MAX];

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

#define H        "Host: h\r\n"
#define OPTIONS  "OPTIONS /rpc HTTP/1.1\r\n" H "\r\n"
#define LAST     "OPTIONS /rpc HTTP/1.1\r\n" H "Connection: close\r\n\r\n"
#define BAD_CALL "POST /rpc HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n{} {}"

/* All that can be negotiated. */
static const struct suite {
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

/* Both shards begin anew, the first with the certificate that the suite needs. */
static struct tls_wish begin(const struct suite *suite)
{
    const struct tls_setup setup = {.certificates = suite->rsa ? &rsa : &ec, .ncertificates = 1};
    shardlet_deinit(&from);
    shardlet_init(&from, MOVE_CONF, 0);
    tls_client_set_up(&from, &setup);
    return (struct tls_wish){.version = suite->version, .cipher = suite->cipher};
}

static bool has(size_t n, const char *text)
{
    return memmem(out, n, text, strlen(text)) != NULL;
}

static size_t count(size_t n, const char *text)
{
    size_t times = 0;
    for (const char *at = out; (at = memmem(at, n - (size_t)(at - out), text, strlen(text)));
         at += strlen(text))
        times++;
    return times;
}

/* The shard closes what is left of the connection. */
static void end(struct tls_client *client, struct shardlet *at)
{
    tls_client_close(client);
    shardlet_turn(at);
    cr_expect_eq(at->ctx.open, 0u);
}

/* Requests and their answers, then the end with close_notify on both sides. */
Test(tls_transport, every_suite)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct tls_wish wish = begin(&suites[i]);
        size_t n = 0;
        struct tls_client client = tls_client_connect(&from, "web", &wish);
        cr_expect_str_eq(SSL_get_cipher_name(client.ssl), suites[i].cipher);
        tls_client_say(&client, SPAN(OPTIONS OPTIONS));
        cr_expect_eq(tls_client_listen(&client, &from, out, sizeof(out), &n), SSL_ERROR_WANT_READ);
        cr_expect(count(n, "HTTP/1.1 204") == 2, "%s: %.*s", suites[i].cipher, (int)n, out);
        tls_client_say(&client, SPAN(LAST));
        cr_expect_eq(tls_client_listen(&client, &from, out, sizeof(out), &n), SSL_ERROR_ZERO_RETURN,
            "%s: close_notify", suites[i].cipher);
        cr_expect_eq(client.client->state, CLIENT_LINGERING);
        cr_expect_null(client.client->transport->unsent ? "unsent" : NULL);
        SSL_shutdown(client.ssl);
        tls_client_send(&client, SIZE_MAX);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, 0u, "closed by the client's close_notify, not after a while");
        end(&client, &from);
    }
}

/* What is answered over TLS is what a plain connection gets. */
Test(tls_transport, every_protocol)
{
    const struct {
        const char *listener;
        struct span input;
        const char *contains;
    } rows[] = {
        {"web", SPAN(OPTIONS BAD_CALL OPTIONS), "-32700"},
        {"web",
            SPAN(HANDSHAKE("h") WS_FRAME("\x89", "\x84", "ping") WS_FRAME("\x81", "\x82", "{}")
                    WS_FRAME("\x88", "\x82", "\x03\xe8")),
            "-32600"},
        {"lines", SPAN("{}\n[]\nx\n"), "-32700"},
        {"frames", SPAN("\0\0\0\2{}\0\0\0\0"), "-32600"},
    };
    static char plain[OUT_MAX];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct tls_wish wish = begin(&suites[i % ARRAY_LEN(suites)]);
        size_t n = 0, nplain = 0;
        int peer;
        struct conf_tls *tls = from.conf->listeners[0].tls;
        shardlet_client(&to, rows[i].listener, &peer);
        cr_assert(tls != NULL && write(peer, rows[i].input.p, rows[i].input.n) > 0);
        for (int turns = 0; turns < 20; turns++)
            shardlet_turn(&to);
        shardlet_read(peer, plain, sizeof(plain), &nplain);
        close(peer);
        shardlet_turn(&to);
        struct tls_client client = tls_client_connect(&from, rows[i].listener, &wish);
        tls_client_say(&client, rows[i].input);
        tls_client_listen(&client, &from, out, sizeof(out), &n);
        cr_expect(has(n, rows[i].contains), "row %zu", i);
        cr_expect(n == nplain && memcmp(out, plain, n) == 0, "row %zu: %.*s", i, (int)n, out);
        end(&client, &from);
    }
}

/* A client's bytes come one by one: its hello, too. */
Test(tls_transport, byte_by_byte)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_open(&from, "web", &wish);
    size_t n = 0;
    cr_assert_eq(SSL_do_handshake(client.ssl), -1);
    while (tls_client_send(&client, 1))
        shardlet_step(&from);
    cr_assert(tls_client_shake(&client, &from));
    tls_client_seal(&client, SPAN(OPTIONS));
    while (tls_client_send(&client, 1))
        shardlet_step(&from);
    tls_client_listen(&client, &from, out, sizeof(out), &n);
    cr_expect(has(n, "HTTP/1.1 204"));
    end(&client, &from);
}

/* What comes together with the client's Finished is no part of the handshake, and not lost. */
Test(tls_transport, request_with_finished)
{
    for (size_t i = 0; i < 4; i += 3) {
        const struct tls_wish wish = begin(&suites[i]);
        struct tls_client client = tls_client_open(&from, "web", &wish);
        size_t n = 0;
        for (int steps = 0; steps < 50 && SSL_in_init(client.ssl); steps++) {
            char bytes[4096];
            ssize_t got;
            tls_client_send(&client, SIZE_MAX);
            shardlet_step(&from);
            while ((got = recv(client.fd, bytes, sizeof(bytes), 0)) > 0)
                BIO_write(client.in, bytes, (int)got);
            SSL_do_handshake(client.ssl);
        }
        if (suites[i].version == TLS1_3_VERSION) /* in 1.2 the server has the last word */
            cr_assert(BIO_pending(client.out) > 0);
        tls_client_say(&client, SPAN(OPTIONS OPTIONS));
        tls_client_listen(&client, &from, out, sizeof(out), &n);
        cr_expect_eq(count(n, "HTTP/1.1 204"), 2u);
        end(&client, &from);
    }
}

static void push(const struct client *client, struct span body)
{
    static const struct push_from sibling;
    const struct frame frame = {
        .head = {.type = FRAME_PUSH, .conn = client->conn.id}, .body = body};
    push_handle(client->ctx, &sibling, &frame);
}

static char bulk[BULK];

static void fill_bulk(void)
{
    for (size_t i = 0; i < sizeof(bulk); i++)
        bulk[i] = (char)('a' + i % 23);
}

/* Two large pushes, and a client that begins to read when they wait. */
static struct tls_client begin_bulk(const struct tls_wish *wish)
{
    int small = 1;
    fill_bulk();
    struct tls_client client = tls_client_connect(&from, "lines", wish);
    cr_assert_eq(setsockopt(client.client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    for (int i = 0; i < 2; i++)
        push(client.client, (struct span){bulk, sizeof(bulk)});
    shardlet_turn(&from);
    return client;
}

static void expect_bulk(size_t n)
{
    cr_assert_eq(n, (size_t)2 * (BULK + 1));
    for (size_t i = 0; i < 2; i++)
        cr_expect_eq(memcmp(out + i * (BULK + 1), bulk, BULK), 0);
}

/* What the kernel does not take is kept as it was sealed, and counts as waiting. */
Test(tls_transport, slow_reader)
{
    const struct tls_wish wish = begin(&suites[1]);
    struct tls_client client = begin_bulk(&wish);
    size_t n = 0;
    const struct transport *transport = client.client->transport;
    cr_assert(transport->unsent > 0 && transport->unsent <= TLS_SCRATCH_SIZE);
    cr_expect(client_blocked(client.client) && client.client->events & EPOLLOUT);
    cr_expect_geq(client_waiting(client.client), transport->unsent);
    for (int i = 0; i < 50 && n < (size_t)2 * (BULK + 1); i++)
        tls_client_listen(&client, &from, out, sizeof(out), &n);
    expect_bulk(n);
    cr_expect_eq(client_waiting(client.client), 0u);
    end(&client, &from);
}

/* Where it is cut it goes on: a record is read in part, for each suite. */
Test(tls_transport, moves_in_a_record)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct tls_wish wish = begin(&suites[i]);
        for (size_t cut = 0; cut < 60; cut += 1 + cut / 8) {
            struct tls_client client = tls_client_connect(&from, "web", &wish);
            size_t n = 0;
            tls_client_say(&client, SPAN(OPTIONS));
            tls_client_listen(&client, &from, out, sizeof(out), &n);
            tls_client_seal(&client, SPAN(BAD_CALL));
            tls_client_send(&client, cut);
            shardlet_turn(&from);
            cr_assert_eq(shardlet_move(&client.client, &to), 0);
            tls_client_send(&client, SIZE_MAX);
            tls_client_say(&client, SPAN(OPTIONS));
            cr_expect_eq(
                tls_client_listen(&client, &to, out, sizeof(out), &n), SSL_ERROR_WANT_READ);
            cr_expect(count(n, "HTTP/1.1 204") == 2 && has(n, "-32700"), "%s, cut at %zu: %.*s",
                suites[i].cipher, cut, (int)n, out);
            end(&client, &to);
        }
    }
}

/* What is sealed and not written travels as it is. */
Test(tls_transport, moves_with_what_is_unsent)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct tls_wish wish = begin(&suites[i]);
        struct tls_client client = begin_bulk(&wish);
        size_t n = 0;
        cr_assert_gt(client.client->transport->unsent, 0u);
        cr_assert_eq(shardlet_move(&client.client, &to), 0);
        cr_assert_gt(client.client->transport->unsent, 0u);
        for (int turns = 0; turns < 50 && n < (size_t)2 * (BULK + 1); turns++)
            tls_client_listen(&client, &to, out, sizeof(out), &n);
        expect_bulk(n);
        end(&client, &to);
    }
}

/* Keys are updated on both sides, before and after, asked for or not. */
Test(tls_transport, moves_between_key_updates)
{
    static const int kinds[] = {SSL_KEY_UPDATE_REQUESTED, SSL_KEY_UPDATE_NOT_REQUESTED};
    for (size_t i = 0; i < 6; i++) {
        const struct tls_wish wish = begin(&suites[i % 3]);
        struct tls_client client = tls_client_connect(&from, "web", &wish);
        size_t n = 0;
        SSL_key_update(client.ssl, kinds[i / 3]);
        tls_client_say(&client, SPAN(OPTIONS));
        tls_client_listen(&client, &from, out, sizeof(out), &n);
        cr_assert_eq(shardlet_move(&client.client, &to), 0);
        SSL_key_update(client.ssl, kinds[1 - i / 3]);
        tls_client_say(&client, SPAN(OPTIONS));
        cr_expect_eq(tls_client_listen(&client, &to, out, sizeof(out), &n), SSL_ERROR_WANT_READ);
        cr_expect_eq(count(n, "HTTP/1.1 204"), 2u);
        end(&client, &to);
    }
}

/* A KeyUpdate is answered where there is nothing else to write. */
Test(tls_transport, key_update_alone)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_connect(&from, "frames", &wish);
    const struct tls_transport *t = container_of(
        client.client->transport, struct tls_transport, transport);
    const struct tls_keys before = t->record.write;
    SSL_key_update(client.ssl, SSL_KEY_UPDATE_REQUESTED);
    cr_assert_eq(SSL_do_handshake(client.ssl), 1);
    tls_client_send(&client, SIZE_MAX);
    shardlet_turn(&from);
    cr_expect_neq(memcmp(before.key, t->record.write.key, sizeof(before.key)), 0);
    cr_expect_not(tls_record_owes(&t->record));
    end(&client, &from);
}

/* The handshake stays; what is left of it when it is over goes. */
Test(tls_transport, moves_after_its_handshake)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_open(&from, "web", &wish);
    size_t n = 0;
    shardlet_turn(&from);
    cr_expect_not(client_can_move(client.client));
    from.ctx.leaving = true;
    cr_assert(tls_client_shake(&client, &from));
    for (int i = 0; i < 20 && list_empty(&from.ctx.idle); i++)
        shardlet_step(&from);
    cr_assert(client_can_move(client.client));
    from.ctx.leaving = false;
    cr_assert_eq(shardlet_move(&client.client, &to), 0);
    tls_client_say(&client, SPAN(OPTIONS));
    tls_client_listen(&client, &to, out, sizeof(out), &n);
    cr_expect(has(n, "HTTP/1.1 204"));
    end(&client, &to);
}

/* A state that no shard has written is refused, whatever is wrong with it. */
Test(tls_transport, does_not_believe_a_state)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_connect(&from, "web", &wish);
    struct buf state = {0};
    struct pack pack = {.out = &state};
    client.client->transport->ops->save(client.client->transport, &pack);
    cr_assert_not(pack.failed);
    for (size_t n = 0; n < buf_len(&state); n++) {
        struct transport *restored = NULL;
        struct unpack unpack = {.left = {buf_data(&state), n}};
        cr_assert_lt(tls_transport_ops.restore(&restored, &to.ctx, -1, &unpack), 0, "%zu", n);
    }
    for (size_t i = 0; i < 12; i++) { /* version, flags, lengths, the object */
        struct transport *restored = NULL;
        struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
        buf_data(&state)[i] ^= (char)0x84;
        int r = tls_transport_ops.restore(&restored, &to.ctx, -1, &unpack);
        cr_expect_lt(r == 0 ? unpack_end(&unpack) : r, 0, "byte %zu", i);
        if (r == 0)
            tls_transport_ops.free(restored);
        buf_data(&state)[i] ^= (char)0x84;
    }
    buf_deinit(&state);
    end(&client, &from);
}

/* A record that does not open: the client has the alert before the connection ends. */
Test(tls_transport, violation)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct tls_wish wish = begin(&suites[i]);
        struct tls_client client = tls_client_connect(&from, "frames", &wish);
        size_t n = 0;
        char record[] = "\x17\x03\x03\0\x20not encrypted by any key of this";
        cr_assert_eq(send(client.fd, record, 5 + 32, 0), 5 + 32);
        cr_assert_eq(send(client.fd, record, 5 + 32, 0), 5 + 32, "unread when it ends");
        cr_expect_eq(tls_client_listen(&client, &from, out, sizeof(out), &n), SSL_ERROR_SSL);
        cr_expect_eq(tls_client_alert(), SSL_AD_BAD_RECORD_MAC, "%s", suites[i].cipher);
        cr_expect(n == 0 && from.ctx.tls->failure.kind == TLS_FAILURE_RECORD);
        end(&client, &from);
    }
}

/* The client has shut its side: it still gets its answers. */
Test(tls_transport, half_closed)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_connect(&from, "web", &wish);
    size_t n = 0;
    tls_client_seal(&client, SPAN(OPTIONS BAD_CALL));
    SSL_shutdown(client.ssl);
    tls_client_send(&client, SIZE_MAX);
    cr_expect_eq(tls_client_listen(&client, &from, out, sizeof(out), &n), SSL_ERROR_ZERO_RETURN);
    cr_expect(has(n, "HTTP/1.1 204") && has(n, "-32700"), "%.*s", (int)n, out);
    end(&client, &from);
}

/* All that came before close_notify is answered, over as many turns as it takes. */
Test(tls_transport, half_closed_behind_many)
{
    enum { MANY = 300 };
    const struct tls_wish wish = begin(&suites[3]);
    struct tls_client client = tls_client_connect(&from, "web", &wish);
    size_t n = 0;
    for (int i = 0; i < MANY; i++)
        tls_client_seal(&client, SPAN(OPTIONS));
    SSL_shutdown(client.ssl);
    tls_client_send(&client, SIZE_MAX);
    cr_expect_eq(tls_client_listen(&client, &from, out, sizeof(out), &n), SSL_ERROR_ZERO_RETURN);
    cr_expect_eq(count(n, "HTTP/1.1 204"), (size_t)MANY);
    tls_client_close(&client); /* the kernel may have had some of it still: it lingers */
}

/* In TLS 1.2 keys cannot be changed: when they have been used enough the connection ends. */
Test(tls_transport, worn_keys)
{
    for (unsigned worn = 0; worn < 2; worn++) {
        const struct tls_wish wish = begin(&suites[3]);
        struct tls_client client = tls_client_connect(&from, "web", &wish);
        struct tls_transport *t = container_of(
            client.client->transport, struct tls_transport, transport);
        t->record.write.sequence = TLS_RECORDS_SOFT - 2 + worn;
        tls_client_say(&client, SPAN(OPTIONS)); /* the answer is one record */
        shardlet_turn(&from);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, worn ? 0u : 1u);
        tls_client_close(&client);
        shardlet_turn(&from);
    }
}

/* Nothing has come yet, and not all is out: it goes, and is still unused. */
Test(tls_transport, moves_unused)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_connect(&from, "frames", &wish);
    struct tls_transport *t = container_of(
        client.client->transport, struct tls_transport, transport);
    size_t n = 0;
    cr_assert_not(client.client->used);
    const struct iovec heartbeat = {(char[4]){0}, 4}; /* as where the socket is full */
    uint8_t record[TLS_RECORD_MAX + TLS_ANSWERS_MAX];
    struct tls_sealed sealed = tls_record_seal(
        &t->record, from.ctx.tls->crypto, &heartbeat, 1, 0, record, sizeof(record));
    cr_assert_eq(tls_held_add_out(&t->held, record, sealed.bytes), 0);
    t->transport.unsent = (uint32_t)sealed.bytes;
    cr_assert_eq(shardlet_move(&client.client, &to), 0);
    cr_expect_not(client.client->used);
    tls_client_say(&client, SPAN("\0\0\0\2{}"));
    tls_client_listen(&client, &to, out, sizeof(out), &n);
    cr_expect(has(n, "-32600") && client.client->used);
    end(&client, &to);
}

/* A line without its end is complete where the client has said so, and else is not carried out. */
Test(tls_transport, truncated_line)
{
    for (int cut = 0; cut < 2; cut++) {
        const struct tls_wish wish = begin(&suites[0]);
        struct tls_client client = tls_client_connect(&from, "lines", &wish);
        size_t n = 0;
        tls_client_seal(&client, SPAN("{}"));
        if (!cut)
            SSL_shutdown(client.ssl);
        tls_client_send(&client, SIZE_MAX);
        cr_assert_eq(shutdown(client.fd, SHUT_WR), 0);
        tls_client_listen(&client, &from, out, sizeof(out), &n);
        cr_expect(has(n, cut ? "-32700" : "-32600"), "%.*s", (int)n, out);
        end(&client, &from);
    }
}

/* What speaks no TLS: HTTP is told so, where the listener speaks it. */
Test(tls_transport, no_tls)
{
    const struct {
        const char *listener;
        struct span input;
        const char *answer;
    } rows[] = {
        {"web", SPAN(OPTIONS), "HTTP/1.1 400 Bad Request\r\n"},
        {"web", SPAN("\x80\x2e\x01\x03\x01"), NULL},
        {"web", SPAN("get / HTTP/1.1\r\n\r\n"), NULL},
        {"lines", SPAN("{}\n"), NULL},
        {"frames", SPAN(OPTIONS), NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t n = 0;
        int peer;
        begin(&suites[0]);
        shardlet_client(&from, rows[i].listener, &peer);
        cr_assert_eq(write(peer, rows[i].input.p, rows[i].input.n), (ssize_t)rows[i].input.n);
        shardlet_turn(&from);
        shardlet_read(peer, out, sizeof(out), &n);
        const char *answer = rows[i].answer;
        cr_expect(answer == NULL ? n == 0 : n > 0 && memcmp(out, answer, strlen(answer)) == 0);
        cr_expect_eq(recv(peer, out, 1, 0), 0, "row %zu: it is shut", i);
        cr_expect_eq(from.ctx.tls->failure.kind, TLS_FAILURE_NOT_TLS);
        cr_expect_eq(counted_handshakes(&from.ctx, false), i + 1);
        close(peer);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, 0u);
    }
}

/* The client asks for small records, and gets no others. */
Test(tls_transport, max_fragment_length)
{
    for (size_t i = 0; i < 4; i += 3) {
        struct tls_wish wish = begin(&suites[i]);
        wish.fragment = TLSEXT_max_fragment_length_512;
        struct tls_client client = tls_client_connect(&from, "lines", &wish);
        size_t n = 0;
        fill_bulk();
        push(client.client, (struct span){bulk, 5000});
        tls_client_listen(&client, &from, out, sizeof(out), &n);
        cr_expect(n == 5001 && memcmp(out, bulk, 5000) == 0);
        const struct tls_transport *t = container_of(
            client.client->transport, struct tls_transport, transport);
        cr_expect(t->record.fragment_max == 512 && t->record.held);
        end(&client, &from);
    }
}

/* A handshake has handshake_timeout, then the first byte has first_byte_timeout; the rest of a
 * record has body_timeout. */
Test(tls_transport, timeouts)
{
    fake_clock_stop();
    const struct tls_wish wish = begin(&suites[0]);
    uint64_t first = from.conf->limits.first_byte_timeout, rest = from.conf->limits.body_timeout;
    uint64_t shake = from.conf->listeners[0].tls->handshake_timeout;
    struct tls_client client = tls_client_open(&from, "frames", &wish);
    fake_clock_advance(shake - 1);
    shardlet_turn(&from);
    cr_expect_eq(from.ctx.open, 1u);
    fake_clock_advance(1);
    shardlet_turn(&from);
    cr_expect_eq(from.ctx.open, 0u, "handshake_timeout");
    tls_client_close(&client);

    client = tls_client_open(&from, "frames", &wish);
    fake_clock_advance(shake - 1);
    cr_assert(tls_client_shake(&client, &from));
    shardlet_turn(&from);
    fake_clock_advance(first - 1);
    shardlet_turn(&from);
    cr_expect_eq(from.ctx.open, 1u);
    fake_clock_advance(1);
    shardlet_turn(&from);
    cr_expect_eq(from.ctx.open, 0u, "first_byte_timeout");
    tls_client_close(&client);

    for (size_t part = 3; part < 30; part += 20) { /* in the head, behind it */
        client = tls_client_connect(&from, "frames", &wish);
        size_t n = 0;
        tls_client_say(&client, SPAN("\0\0\0\2{}"));
        tls_client_listen(&client, &from, out, sizeof(out), &n);
        fake_clock_advance(rest * 2);
        shardlet_turn(&from);
        tls_client_seal(&client, SPAN("\0\0\0\2{}"));
        tls_client_send(&client, part);
        shardlet_turn(&from);
        fake_clock_advance(rest - 1);
        tls_client_send(&client, 1);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, 1u);
        fake_clock_advance(1);
        shardlet_turn(&from);
        cr_expect_eq(from.ctx.open, 0u, "body_timeout");
        tls_client_close(&client);
    }
}

/* One that is in its handshake has asked for nothing. */
Test(tls_transport, drained_in_its_handshake)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_open(&from, "web", &wish);
    shardlet_turn(&from);
    client.client->transport->unsent = 1; /* as where its socket is full */
    client_drain(client.client);
    shardlet_turn(&from);
    cr_expect_eq(from.ctx.open, 0u);
    tls_client_close(&client);
}

/* An idle connection that is drained gets close_notify. */
Test(tls_transport, drained)
{
    const struct tls_wish wish = begin(&suites[0]);
    struct tls_client client = tls_client_connect(&from, "web", &wish);
    size_t n = 0;
    client_drain(client.client);
    cr_expect_eq(tls_client_listen(&client, &from, out, sizeof(out), &n), SSL_ERROR_ZERO_RETURN);
    cr_expect_eq(from.ctx.open, 0u);
    tls_client_close(&client);
}

/* The n-th allocation of ours fails: nothing leaks or hangs, whatever becomes of the connection. */
Test(tls_transport, allocations)
{
    const struct tls_wish wish = begin(&suites[0]);
    bool fine = false;
    for (long nth = 0; !fine; nth++) {
        cr_assert_lt(nth, 500);
        struct tls_client client = tls_client_open(&from, "web", &wish);
        mem_fail_after(nth);
        bool shaken = tls_client_shake(&client, &from);
        shardlet_turn(&from);
        fine = shaken && from.ctx.open == 1 && !client.client->transport->opening;
        if (fine) {
            size_t n = 0;
            tls_client_seal(&client, SPAN(OPTIONS));
            tls_client_send(&client, 10);
            shardlet_turn(&from);
            fine = from.ctx.open == 1 && client_can_move(client.client) &&
                   shardlet_move(&client.client, &to) == 0;
            tls_client_send(&client, SIZE_MAX);
            tls_client_listen(&client, &to, out, sizeof(out), &n);
            fine = fine && has(n, "HTTP/1.1 204");
        }
        mem_fail_after(-1);
        tls_client_close(&client);
        shardlet_turn(&from);
        shardlet_turn(&to);
        cr_expect(from.ctx.open == 0 && to.ctx.open == 0, "allocation %ld", nth);
    }
}
