#include <criterion/criterion.h>
#include <string.h>

#include "frontd/codec/tls_record_internal.h"
#include "tests/unit/support/tls_peer.h"

/* What is sealed, and when; what violates the rules is in test_tls_violations.c. */

static struct tls_crypto *crypto;
static struct tls_pair pair;
static uint8_t wire[1 << 18], plain[1 << 18];
static uint8_t text[1 << 17];

static void begin(const struct tls_pair_config *config)
{
    if (crypto == NULL)
        crypto = tls_crypto_new();
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i * 7 + i / 256);
    tls_pair_init(&pair, crypto, config, 1);
}

static void finish(void)
{
    tls_pair_deinit(&pair);
    cr_assert_eq(tls_crypto_keyed(crypto), 0);
    crypto = tls_crypto_free(crypto);
}

static struct tls_sealed seal(size_t n, size_t room)
{
    const struct iovec iov = {text, n};
    return tls_record_seal(&pair.record, crypto, &iov, 1, 0, wire, room);
}

static struct tls_opened open_wire(size_t n)
{
    return tls_record_open(&pair.record, crypto, wire, n, wire, n);
}

/*
 * The peer reads `n` bytes at `wire`. Returns what they are: "23:5 " is a record of 5 bytes of
 * data, "21:1.0 " an alert with its bytes, "22:24.0.0.1.0 " a handshake message.
 */
static const char *peer_reads(size_t n)
{
    static char said[1000];
    size_t at = 0, out = 0;
    said[0] = '\0';
    while (at < n) {
        uint8_t type;
        struct span content;
        const size_t used = tls_peer_open(&pair.peer, wire + at, n - at, &type, &content);
        if (used == 0)
            return "wrong";
        out += (size_t)sprintf(said + out, "%u:", type);
        if (type == 23)
            out += (size_t)sprintf(said + out, "%zu ", content.n);
        for (size_t i = 0; type != 23 && i < content.n; i++)
            out += (size_t)sprintf(
                said + out, "%u%c", (uint8_t)content.p[i], i + 1 < content.n ? '.' : ' ');
        if (type == 22 && content.p[0] == 24)
            tls_peer_update(&pair.peer, &pair.peer.read);
        at += used;
        cr_assert_lt(out, sizeof(said) - 100);
    }
    return said;
}

static void peer_says(uint8_t type, const char *content, size_t n)
{
    const size_t size = tls_peer_seal(&pair.peer, type, content, n, 0, wire);
    if (type == 22 && content[0] == 24)
        tls_peer_update(&pair.peer, &pair.peer.write);
    struct tls_opened opened = open_wire(size);
    cr_assert_eq(opened.event, TLS_EVENT_MORE, "%u", opened.alert);
}

static const struct tls_pair_config v13 = {
    .v13 = true, .record = {.suite = TLS_AES_256_GCM, .fragment_max = TLS_FRAGMENT_MAX}};
static const struct tls_pair_config v12 = {
    .v13 = false, .record = {.suite = TLS_AES_128_GCM, .fragment_max = TLS_FRAGMENT_MAX}};
static const struct tls_pair_config v12_chacha = {
    .v13 = false, .record = {.suite = TLS_CHACHA20, .fragment_max = TLS_FRAGMENT_MAX}};

/* Data is cut into records of fragment_max bytes, as many as there is room for. */
Test(tls_record, fragments)
{
    static const uint16_t fragments[] = {TLS_FRAGMENT_MIN, 512, TLS_FRAGMENT_MAX};
    for (unsigned i = 0; i < TLS_PAIRS * ARRAY_LEN(fragments); i++) {
        struct tls_pair_config config = tls_pair_nth(i / 3);
        const size_t fragment = fragments[i % 3];
        config.record.fragment_max = (uint16_t)fragment;
        begin(&config);
        const bool gcm12 = !config.v13 && config.record.suite != TLS_CHACHA20;
        const size_t overhead = config.v13 ? 22 : gcm12 ? 29 : 21;
        char expected[100];

        struct tls_sealed sealed = seal(2 * fragment + 3, sizeof(wire));
        cr_assert_eq(sealed.bytes, 2 * fragment + 3 + 3 * overhead);
        cr_assert_eq(sealed.data, 2 * fragment + 3);
        cr_assert_eq(sealed.answers, 0);
        cr_assert(!sealed.ended);
        sprintf(expected, "23:%zu 23:%zu 23:3 ", fragment, fragment);
        cr_assert_str_eq(peer_reads(sealed.bytes), expected);

        const size_t two = 2 * (fragment + overhead);
        sealed = seal(3 * fragment, two);
        cr_assert_eq(sealed.data, 2 * fragment);
        sprintf(expected, "23:%zu 23:%zu ", fragment, fragment);
        cr_assert_str_eq(peer_reads(sealed.bytes), expected);
        sealed = seal(3 * fragment, two - 1);
        cr_assert_eq(sealed.data, fragment);
        peer_reads(sealed.bytes);
        sealed = seal(3 * fragment, fragment + overhead - 1);
        cr_assert_eq(sealed.bytes, 0);
        cr_assert_eq(sealed.data, 0);
        sealed = seal(0, sizeof(wire));
        cr_assert_eq(sealed.bytes, 0);
        finish();
    }
}

/* Several pieces of memory are one text; what is passed over may end anywhere among them. */
Test(tls_record, pieces)
{
    begin(&v13);
    const struct iovec iov[] = {{text, 10}, {NULL, 0}, {text + 10, 1}, {text + 11, 20}, {NULL, 0}};
    for (size_t skip = 0; skip <= 31; skip++) {
        struct tls_sealed sealed = tls_record_seal(
            &pair.record, crypto, iov, 5, skip, wire, sizeof(wire));
        cr_assert_eq(sealed.data, 31 - skip);
        if (skip == 31) {
            cr_assert_eq(sealed.bytes, 0);
            continue;
        }
        uint8_t type;
        struct span content;
        cr_assert_eq(tls_peer_open(&pair.peer, wire, sealed.bytes, &type, &content), sealed.bytes);
        cr_assert_eq(content.n, 31 - skip);
        cr_assert_arr_eq(content.p, text + skip, content.n);
    }
    finish();
}

/* Many records in one buffer, in place and not, and what follows them. */
Test(tls_record, many)
{
    for (unsigned i = 0; i < 2 * TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i / 2);
        begin(&config);
        size_t n = 0;
        for (size_t r = 0; r < 300; r++)
            n += tls_peer_seal(&pair.peer, 23, text + r * r % 1000, r, r % 5, wire + n);
        const size_t last = tls_peer_seal(&pair.peer, 23, text, 100, 0, wire + n);
        uint8_t *out = i % 2 == 0 ? wire : plain;
        struct tls_opened opened = tls_record_open(
            &pair.record, crypto, wire, n + last - 1, out, n + last - 1);
        cr_assert_eq(opened.event, TLS_EVENT_MORE);
        cr_assert_eq(opened.used, n);
        cr_assert_eq(opened.missing, 1);
        cr_assert_eq(opened.data, 300 * 299 / 2);
        size_t at = 0;
        for (size_t r = 0; r < 300; at += r, r++)
            cr_assert_eq(memcmp(out + at, text + r * r % 1000, r), 0);
        opened = tls_record_open(&pair.record, crypto, wire + n, last, out, last);
        cr_assert_eq(opened.data, 100);
        cr_assert_eq(opened.missing, TLS_HEADER_SIZE);
        finish();
    }
}

/* A record wants room for its padding and type, too, and waits for it. */
Test(tls_record, room)
{
    begin(&v13);
    const size_t n = tls_peer_seal(&pair.peer, 23, text, 100, 20, wire);
    struct tls_opened opened = tls_record_open(&pair.record, crypto, wire, n, plain, 120);
    cr_assert_eq(opened.event, TLS_EVENT_ROOM);
    cr_assert_eq(opened.used, 0);
    cr_assert_eq(opened.missing, 121);
    opened = tls_record_open(&pair.record, crypto, wire, n, plain, 121);
    cr_assert_eq(opened.event, TLS_EVENT_MORE);
    cr_assert_eq(opened.data, 100);
    cr_assert_arr_eq(plain, text, 100);
    finish();
}

/* A KeyUpdate that asks for one is answered before the next data, once for any number of them. */
Test(tls_record, key_update)
{
    for (unsigned i = 0; i < TLS_PAIRS; i += 2) {
        const struct tls_pair_config config = tls_pair_nth(i);
        begin(&config);
        peer_says(22, "\30\0\0\1\0", 5);
        cr_assert(!tls_record_owes(&pair.record));
        peer_says(23, "data with the next key", 22);
        peer_says(22, "\30\0\0\1\1", 5);
        peer_says(22, "\30\0\0\1\1", 5);
        cr_assert(tls_record_owes(&pair.record));
        cr_assert_eq(seal(10, TLS_ANSWERS_MAX - 1).bytes, 0);
        struct tls_sealed sealed = seal(10, sizeof(wire));
        cr_assert_eq(sealed.data, 10);
        cr_assert_eq(sealed.answers, 27);
        cr_assert_str_eq(peer_reads(sealed.bytes), "22:24.0.0.1.0 23:10 ");
        cr_assert(!tls_record_owes(&pair.record));
        cr_assert_str_eq(peer_reads(seal(10, sizeof(wire)).bytes), "23:10 ");
        finish();
    }
}

/* What peers of TLS 1.2 ask for is refused, once at a time. */
Test(tls_record, no_renegotiation)
{
    for (unsigned client = 0; client < 2; client++) {
        struct tls_pair_config config = v12;
        config.record.client = client;
        begin(&config);
        for (unsigned i = 0; i < 2; i++)
            peer_says(22, client ? "\0\0\0\0" : "\1\0\0\2ab", client ? 4 : 6);
        struct tls_sealed sealed = seal(3, sizeof(wire));
        cr_assert_eq(sealed.answers, 31);
        cr_assert_str_eq(peer_reads(sealed.bytes), "21:1.100 23:3 ");
        finish();
    }
}

Test(tls_record, close)
{
    for (unsigned i = 0; i < TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i);
        begin(&config);
        peer_says(22,
            config.v13             ? "\30\0\0\1\1"
            : config.record.client ? "\0\0\0\0"
                                   : "\1\0\0\0",
            config.v13 ? 5 : 4);
        tls_record_close(&pair.record);
        tls_record_close(&pair.record);
        struct tls_sealed sealed = seal(10, sizeof(wire));
        cr_assert(sealed.ended);
        cr_assert_eq(sealed.data, 0);
        cr_assert_leq(sealed.bytes, TLS_ANSWERS_MAX);
        cr_assert_str_eq(
            peer_reads(sealed.bytes), config.v13 ? "22:24.0.0.1.0 21:1.0 " : "21:1.100 21:1.0 ");
        /* Only this direction has ended; nothing is said in it any more. */
        peer_says(23, "x", 1);
        peer_says(22,
            config.v13             ? "\30\0\0\1\1"
            : config.record.client ? "\0\0\0\0"
                                   : "\1\0\0\0",
            config.v13 ? 5 : 4);
        tls_record_close(&pair.record);
        cr_assert(!tls_record_owes(&pair.record));
        tls_record_fail(&pair.record, TLS_ALERT_INTERNAL_ERROR);
        cr_assert(!tls_record_owes(&pair.record));
        cr_assert_eq(seal(10, sizeof(wire)).bytes, 0);
        finish();
    }
}

/* After the peer's close_notify data may still be sent; what the peer sends is ignored. */
Test(tls_record, half_closed)
{
    begin(&v13);
    size_t n = tls_peer_seal(&pair.peer, 23, "last", 4, 0, wire);
    n += tls_peer_seal(&pair.peer, 21, "\1\0", 2, 0, wire + n);
    n += tls_peer_seal(&pair.peer, 23, "ignored", 7, 0, wire + n);
    struct tls_opened opened = open_wire(n);
    cr_assert_eq(opened.event, TLS_EVENT_END);
    cr_assert_eq(opened.data, 4);
    cr_assert_eq(opened.used, n);
    cr_assert_arr_eq(wire, "last", 4);
    cr_assert_eq(open_wire(3).event, TLS_EVENT_END);
    cr_assert_str_eq(peer_reads(seal(10, sizeof(wire)).bytes), "23:10 ");
    tls_record_close(&pair.record);
    cr_assert_str_eq(peer_reads(seal(0, sizeof(wire)).bytes), "21:1.0 ");
    finish();
}

Test(tls_record, fail)
{
    begin(&v13);
    peer_says(22, "\30\0\0\1\1", 5);
    tls_record_close(&pair.record);
    tls_record_fail(&pair.record, TLS_ALERT_INTERNAL_ERROR);
    tls_record_fail(&pair.record, TLS_ALERT_DECODE_ERROR); /* the first one counts */
    struct tls_sealed sealed = seal(10, sizeof(wire));
    cr_assert(sealed.ended);
    cr_assert_str_eq(peer_reads(sealed.bytes), "21:2.80 ");
    cr_assert_eq(seal(10, sizeof(wire)).bytes, 0);
    cr_assert_eq(open_wire(0).event, TLS_EVENT_FATAL);
    finish();
}

static void set_sequences(uint32_t write, uint32_t read)
{
    pair.record.write.sequence = pair.peer.read.sequence = write;
    pair.record.read.sequence = pair.peer.write.sequence = read;
}

/* 1.3: with the record that reaches the number the key is changed, in the midst of a text. */
Test(tls_record, own_key_update)
{
    begin(&v13);
    set_sequences(TLS_RECORDS_SOFT - 2, 0);
    struct tls_sealed sealed = seal(3 * TLS_FRAGMENT_MAX, sizeof(wire));
    cr_assert_eq(sealed.data, 2 * TLS_FRAGMENT_MAX);
    cr_assert_str_eq(peer_reads(sealed.bytes), "23:16384 23:16384 ");
    cr_assert(tls_record_owes(&pair.record));
    cr_assert(!tls_record_worn(&pair.record));
    cr_assert_eq(seal(1, TLS_ANSWERS_MAX - 1).data, 0);
    sealed = seal(TLS_FRAGMENT_MAX, sizeof(wire));
    cr_assert_eq(sealed.answers, 27);
    cr_assert_str_eq(peer_reads(sealed.bytes), "22:24.0.0.1.0 23:16384 ");
    cr_assert_eq(pair.record.write.sequence, 1);
    finish();
}

/* 1.3: a peer that has used its key as often is asked to change it. */
Test(tls_record, asks_for_key_update)
{
    begin(&v13);
    set_sequences(0, TLS_RECORDS_SOFT - 2);
    peer_says(23, "x", 1);
    cr_assert(!tls_record_owes(&pair.record));
    peer_says(23, "x", 1);
    cr_assert_str_eq(peer_reads(seal(0, sizeof(wire)).bytes), "22:24.0.0.1.1 ");
    peer_says(23, "x", 1);
    cr_assert(!tls_record_owes(&pair.record), "asked once");
    peer_says(22, "\30\0\0\1\0", 5);
    cr_assert_eq(pair.record.read.sequence, 0);
    finish();
}

/* No sequence number of 32 bits is ever used twice, whatever a peer does. */
Test(tls_record, read_limit)
{
    begin(&v13);
    set_sequences(0, TLS_RECORDS_HARD - 1);
    peer_says(23, "x", 1);
    const size_t n = tls_peer_seal(&pair.peer, 23, "x", 1, 0, wire);
    struct tls_opened opened = open_wire(n);
    cr_assert_eq(opened.event, TLS_EVENT_FATAL);
    cr_assert_eq(opened.alert, TLS_ALERT_INTERNAL_ERROR);
    finish();
}

/* 1.2: the connection is to end soon; at last it is ended. */
static void wears(const struct tls_pair_config *config, uint32_t soft, uint32_t hard)
{
    begin(config);
    set_sequences(soft - 1, 1);
    cr_assert(!tls_record_worn(&pair.record));
    cr_assert_str_eq(peer_reads(seal(1, sizeof(wire)).bytes), "23:1 ");
    cr_assert(tls_record_worn(&pair.record));
    cr_assert(!tls_record_owes(&pair.record));

    set_sequences(1, soft - 1);
    cr_assert(!tls_record_worn(&pair.record));
    peer_says(23, "x", 1);
    cr_assert(tls_record_worn(&pair.record));

    set_sequences(hard - 2, 1);
    struct tls_sealed sealed = seal(3 * TLS_FRAGMENT_MAX, sizeof(wire));
    cr_assert_eq(sealed.data, 2 * TLS_FRAGMENT_MAX);
    cr_assert(sealed.ended);
    cr_assert_str_eq(peer_reads(sealed.bytes), "23:16384 23:16384 ");
    cr_assert_str_eq(peer_reads(seal(1, sizeof(wire)).bytes), "21:1.0 ");
    cr_assert_eq(seal(1, sizeof(wire)).bytes, 0);
    finish();

    /* So it is when it has been warnings and no data that have used the last numbers. */
    begin(config);
    set_sequences(hard - 1, 1);
    peer_says(22, "\1\0\0\0", 4);
    cr_assert_str_eq(peer_reads(seal(0, sizeof(wire)).bytes), "21:1.100 ");
    cr_assert_str_eq(peer_reads(seal(1, sizeof(wire)).bytes), "21:1.0 ");
    finish();
}

Test(tls_record, worn)
{
    wears(&v12, TLS_RECORDS_SOFT, TLS_RECORDS_GCM);
    wears(&v12_chacha, TLS_RECORDS_WORN, TLS_RECORDS_HARD);
    cr_assert_float_eq((double)TLS_RECORDS_GCM * TLS_RECORDS_GCM / (1ull << 49), 1, 1e-6);
}
