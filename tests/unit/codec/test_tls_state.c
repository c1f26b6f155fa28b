#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/codec/tls_record_internal.h"
#include "tests/unit/support/tls_peer.h"

/* The state of a connection as bytes: saved at any point, restored only where it can be right. */

static struct tls_crypto *crypto;
static struct tls_pair pair;
static uint8_t wire[TLS_PEER_ROOM];

static void save(struct buf *ret_state)
{
    struct pack pack = {.out = ret_state};
    *ret_state = (struct buf){0};
    tls_record_save(&pair.record, &pack);
    cr_assert(!pack.failed);
    cr_assert_leq(buf_len(ret_state), TLS_RECORD_SAVED_MAX);
}

static int restore(struct tls_record *ret_record, const void *bytes, size_t n, unsigned version)
{
    struct unpack unpack = {.left = {bytes, n}};
    int rc = tls_record_restore(ret_record, &unpack, version);
    return rc == 0 ? unpack_end(&unpack) : rc;
}

/* Another process goes on. */
static void move(void)
{
    struct buf state;
    struct tls_record moved;
    save(&state);
    cr_assert_eq(restore(&moved, buf_data(&state), buf_len(&state), TLS_RECORD_SAVED), 0);
    cr_assert_eq(memcmp(&moved, &pair.record, sizeof(moved)), 0);
    tls_record_wipe(&pair.record, crypto);
    pair.record = moved;
    buf_deinit(&state);
}

static struct tls_opened peer_says(uint8_t type, const char *content, size_t n)
{
    const size_t size = tls_peer_seal(&pair.peer, type, content, n, 3, wire);
    return tls_record_open(&pair.record, crypto, wire, size, wire, size);
}

/* The peer reads what is sealed; returns how many records that is. */
static unsigned peer_reads(size_t n)
{
    unsigned records = 0;
    uint8_t type;
    struct span content;
    for (size_t at = 0; at < n; records++) {
        const size_t used = tls_peer_open(&pair.peer, wire + at, n - at, &type, &content);
        cr_assert_gt(used, 0);
        if (type == 22)
            tls_peer_update(&pair.peer, &pair.peer.read);
        at += used;
    }
    return records;
}

static unsigned we_say(size_t n)
{
    static char data[100];
    const struct iovec iov = {data, n};
    return peer_reads(tls_record_seal(&pair.record, crypto, &iov, 1, 0, wire, sizeof(wire)).bytes);
}

/* Between any two records, and within a handshake message that came in pieces. */
Test(tls_state, any_point)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i);
        const bool client = config.record.client;
        tls_pair_init(&pair, crypto, &config, 1);
        move();
        peer_says(23, "x", 1);
        peer_says(23, "", 0); /* one without data */
        move();
        cr_assert_eq(we_say(10), 1);
        move();
        const char *message = config.v13 ? "\30\0\0\1\1" : client ? "\0\0\0\0" : "\1\0\0\2ab";
        const size_t n = config.v13 ? 5 : client ? 4 : 6;
        for (size_t at = 0; at < n; at++) {
            cr_assert_eq(peer_says(22, message + at, 1).event, TLS_EVENT_MORE);
            move();
        }
        if (config.v13)
            tls_peer_update(&pair.peer, &pair.peer.write);
        cr_assert(tls_record_owes(&pair.record));
        cr_assert_eq(we_say(10), 2);
        move();
        cr_assert_eq(peer_says(23, "x", 1).data, 1);
        if (config.v13 && client) {
            for (size_t at = 0; at < 9; at++) {
                cr_assert_eq(peer_says(22, "\4\0\0\5abcde" + at, 1).event, TLS_EVENT_MORE);
                move();
            }
        }
        tls_record_close(&pair.record);
        move();
        cr_assert_eq(we_say(10), 1);
        move();
        cr_assert_eq(peer_says(21, "\1\0", 2).event, TLS_EVENT_END);
        move();
        cr_assert(tls_record_ended(&pair.record));
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}

/* An alert that is owed, and one that has been received. */
Test(tls_state, failed)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i);
        tls_pair_init(&pair, crypto, &config, 1);
        cr_assert_eq(peer_says(22, "\24\0\0\1x", 5).event, TLS_EVENT_FATAL);
        move();
        cr_assert(tls_record_owes(&pair.record));
        cr_assert_eq(we_say(10), 1);
        move();
        cr_assert(!tls_record_owes(&pair.record));
        tls_pair_deinit(&pair);
        tls_pair_init(&pair, crypto, &config, 1);
        cr_assert_eq(peer_says(21, "\2\50", 2).event, TLS_EVENT_FATAL);
        move();
        cr_assert_eq(we_say(10), 0);
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}

/* Where each field stands; see tls_record_save(). */
enum {
    AT_SUITE,
    AT_V13,
    AT_CLIENT,
    AT_HELD,
    AT_READ_ENDED,
    AT_WRITE_ENDED,
    AT_FAILED,
    AT_OWES,
    AT_ALERT,
    AT_BARREN,
    AT_HANDSHAKE_AT,
    AT_HANDSHAKE_KIND,
    AT_HANDSHAKE_LEFT,
    AT_FRAGMENT_MAX = AT_HANDSHAKE_LEFT + 2,
};

struct change {
    int at; /* 0 ends the list: the suite is tried elsewhere */
    uint8_t value;
};

static const struct lie {
    bool v13, client, fine;
    struct change changes[5];
} lies[] = {
    {true, false, true, {{AT_CLIENT, 1}}},
    {true, false, false, {{AT_CLIENT, 2}}},
    {true, false, false, {{AT_V13, 2}}},
    {true, false, false, {{AT_HELD, 2}}},
    {true, false, true, {{AT_HELD, 1}}},
    {true, false, false, {{AT_READ_ENDED, 2}}},
    {true, false, false, {{AT_WRITE_ENDED, 2}}},
    {true, false, false, {{AT_FAILED, 2}}},
    {true, false, true, {{AT_FRAGMENT_MAX, 64}, {AT_FRAGMENT_MAX + 1, 0}}},
    {true, false, false, {{AT_FRAGMENT_MAX, 63}, {AT_FRAGMENT_MAX + 1, 0}}},
    {true, false, true, {{AT_FRAGMENT_MAX, 0}, {AT_FRAGMENT_MAX + 1, 64}}},
    {true, false, false, {{AT_FRAGMENT_MAX, 1}, {AT_FRAGMENT_MAX + 1, 64}}},
    {true, false, true, {{AT_BARREN, TLS_BARREN_MAX}}},
    {true, false, false, {{AT_BARREN, TLS_BARREN_MAX + 1}}},
    {true, false, false, {{AT_BARREN, 64}}},

    {true, false, true, {{AT_OWES, TLS_OWES_KEY_UPDATE}}},
    {true, false, true, {{AT_OWES, TLS_OWES_KEY_UPDATE | TLS_OWES_REQUEST | TLS_OWES_CLOSE}}},
    {true, false, false, {{AT_OWES, TLS_OWES_REQUEST}}},
    {true, false, false, {{AT_OWES, TLS_OWES_NO_RENEGOTIATION}}},
    {true, false, false, {{AT_OWES, 16}}},
    {false, false, true, {{AT_OWES, TLS_OWES_NO_RENEGOTIATION | TLS_OWES_CLOSE}}},
    {false, false, false, {{AT_OWES, TLS_OWES_KEY_UPDATE}}},
    {true, false, false, {{AT_OWES, TLS_OWES_CLOSE}, {AT_WRITE_ENDED, 1}}},
    {true, false, false, {{AT_OWES, TLS_OWES_CLOSE}, {AT_FAILED, 1}}},
    {true, false, false, {{AT_ALERT, 10}}},
    {true, false, true, {{AT_ALERT, 10}, {AT_FAILED, 1}}},
    {true, false, false, {{AT_ALERT, 10}, {AT_FAILED, 1}, {AT_WRITE_ENDED, 1}}},

    {true, false, false, {{AT_HANDSHAKE_AT, 5}}},
    {true, false, false, {{AT_HANDSHAKE_KIND, TLS_KIND_TICKET}}},
    {true, false, false, {{AT_HANDSHAKE_LEFT, 1}}},
    {true, false, true, {{AT_HANDSHAKE_AT, 1}}},
    {true, false, false, {{AT_HANDSHAKE_AT, 2}, {AT_HANDSHAKE_LEFT + 1, 1}}},
    {true, false, true, {{AT_HANDSHAKE_AT, 3}, {AT_HANDSHAKE_LEFT + 1, 1}}},
    {true, false, false, {{AT_HANDSHAKE_AT, 3}, {AT_HANDSHAKE_LEFT, 1}}},
    {true, false, true, {{AT_HANDSHAKE_AT, 4}, {AT_HANDSHAKE_LEFT, 1}}},
    {true, false, false, {{AT_HANDSHAKE_AT, 4}, {AT_HANDSHAKE_LEFT, 2}}},
    {true, false, false, {{AT_HANDSHAKE_AT, 4}}},
    {true, false, false,
        {{AT_HANDSHAKE_AT, 4}, {AT_HANDSHAKE_LEFT, 9}, {AT_HANDSHAKE_KIND, TLS_KIND_TICKET}}},
    {true, true, true,
        {{AT_HANDSHAKE_AT, 4}, {AT_HANDSHAKE_LEFT, 9}, {AT_HANDSHAKE_KIND, TLS_KIND_TICKET}}},
    {true, true, false, {{AT_HANDSHAKE_AT, 4}, {AT_HANDSHAKE_KIND, TLS_KIND_TICKET}}},
    {true, true, false, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, TLS_KIND_HELLO_REQUEST}}},
    {true, false, false, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, TLS_KIND_CLIENT_HELLO}}},
    {true, false, false, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, 4}}},
    {false, false, true, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, TLS_KIND_CLIENT_HELLO}}},
    {false, true, false, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, TLS_KIND_CLIENT_HELLO}}},
    {false, false, false, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, TLS_KIND_HELLO_REQUEST}}},
    {false, true, true, {{AT_HANDSHAKE_AT, 1}, {AT_HANDSHAKE_KIND, TLS_KIND_HELLO_REQUEST}}},
    {false, true, false,
        {{AT_HANDSHAKE_AT, 4}, {AT_HANDSHAKE_LEFT, 1},
            {AT_HANDSHAKE_KIND, TLS_KIND_HELLO_REQUEST}}},
    {false, false, false, {{AT_HANDSHAKE_AT, 1}}},
};

Test(tls_state, lies)
{
    crypto = tls_crypto_new();
    for (size_t l = 0; l < ARRAY_LEN(lies); l++) {
        const struct tls_pair_config config = {.v13 = lies[l].v13,
            .record = {.suite = TLS_AES_256_GCM,
                .client = lies[l].client,
                .fragment_max = TLS_FRAGMENT_MAX}};
        struct tls_record record;
        struct buf state;
        tls_pair_init(&pair, crypto, &config, 1);
        save(&state);
        for (const struct change *change = lies[l].changes; change->at != 0; change++)
            buf_data(&state)[change->at] = (char)change->value;
        memset(&record, 0x55, sizeof(record));
        const struct tls_record untouched = record;
        const int rc = restore(&record, buf_data(&state), buf_len(&state), TLS_RECORD_SAVED);
        cr_assert_eq(rc, lies[l].fine ? 0 : -EBADMSG, "lie %zu", l);
        if (rc < 0)
            cr_assert_eq(memcmp(&record, &untouched, sizeof(record)), 0, "lie %zu", l);
        buf_deinit(&state);
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}

/* Every other length, version and suite; the suite says how long the keys are. */
Test(tls_state, lengths)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i);
        struct tls_record record;
        struct buf state;
        tls_pair_init(&pair, crypto, &config, 1);
        save(&state);
        const size_t n = buf_len(&state);
        for (size_t short_n = 0; short_n < n; short_n++)
            cr_assert_eq(restore(&record, buf_data(&state), short_n, TLS_RECORD_SAVED), -EBADMSG);
        cr_assert_eq(restore(&record, buf_data(&state), n, TLS_RECORD_SAVED + 1), -EBADMSG);
        cr_assert_eq(restore(&record, buf_data(&state), n, 0), -EBADMSG);
        for (unsigned suite = 0; suite < 256; suite++) {
            buf_data(&state)[AT_SUITE] = (char)suite;
            const int rc = restore(&record, buf_data(&state), n, TLS_RECORD_SAVED);
            if (suite == config.record.suite)
                cr_assert_eq(rc, 0);
            else if (suite >= TLS_SUITES)
                cr_assert_eq(rc, -EBADMSG);
        }
        buf_deinit(&state);
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}

/* How far keys can have been used. */
Test(tls_state, sequences)
{
    static const struct {
        bool v13;
        enum tls_suite suite;
        bool fine;
        uint32_t read, write;
        unsigned owes;
    } cases[] = {
        {true, TLS_AES_128_GCM, true, 0, 0, 0},
        {true, TLS_AES_128_GCM, true, TLS_RECORDS_HARD, TLS_RECORDS_SOFT - 1, 0},
        {true, TLS_AES_128_GCM, false, TLS_RECORDS_HARD + 1, 0, 0},
        {true, TLS_AES_128_GCM, false, 0, TLS_RECORDS_SOFT, 0},
        {true, TLS_AES_128_GCM, true, 0, TLS_RECORDS_SOFT + 2, TLS_OWES_KEY_UPDATE},
        {true, TLS_AES_128_GCM, false, 0, TLS_RECORDS_SOFT + 3, TLS_OWES_KEY_UPDATE},
        {false, TLS_AES_128_GCM, true, 1, 1, 0},
        {false, TLS_AES_128_GCM, false, 0, 1, 0},
        {false, TLS_AES_128_GCM, false, 1, 0, 0},
        {false, TLS_AES_128_GCM, true, TLS_RECORDS_HARD, TLS_RECORDS_GCM - 1, 0},
        {false, TLS_AES_128_GCM, false, 1, TLS_RECORDS_GCM, 0},
        {false, TLS_AES_128_GCM, true, 1, TLS_RECORDS_GCM + 2, TLS_OWES_CLOSE},
        {false, TLS_AES_128_GCM, false, 1, TLS_RECORDS_GCM + 3, TLS_OWES_CLOSE},
        {false, TLS_CHACHA20, true, 1, TLS_RECORDS_HARD - 1, 0},
        {false, TLS_CHACHA20, false, 1, TLS_RECORDS_HARD, 0},
        {false, TLS_CHACHA20, false, 1, UINT32_MAX, TLS_OWES_CLOSE},
    };
    crypto = tls_crypto_new();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct tls_pair_config config = {.v13 = cases[i].v13,
            .record = {.suite = cases[i].suite, .fragment_max = TLS_FRAGMENT_MAX}};
        struct tls_record record;
        struct buf state;
        tls_pair_init(&pair, crypto, &config, 1);
        pair.record.read.sequence = cases[i].read;
        pair.record.write.sequence = cases[i].write;
        pair.record.owes = cases[i].owes & 15;
        save(&state);
        cr_assert_eq(restore(&record, buf_data(&state), buf_len(&state), TLS_RECORD_SAVED),
            cases[i].fine ? 0 : -EBADMSG, "case %zu", i);
        buf_deinit(&state);
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}
