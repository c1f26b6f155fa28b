#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/support/tls_peer.h"
#include "tests/unit/support/tls_violations.h"

/* What a peer does that is not allowed, and with which alert it is answered. */

static struct tls_crypto *crypto;
static struct tls_pair pair;
static uint8_t wire[2 * TLS_PEER_ROOM], plain[2 * TLS_PEER_ROOM];

static bool applies(unsigned where, const struct tls_pair_config *config)
{
    return (where & (config->v13 ? TLS_V13 : TLS_V12)) &&
           (where & (config->record.client ? TLS_CLIENT : TLS_SERVER));
}

static struct tls_opened open_wire(size_t n, bool in_place)
{
    return in_place ? tls_record_open(&pair.record, crypto, wire, n, wire, n)
                    : tls_record_open(&pair.record, crypto, wire, n, plain, sizeof(plain));
}

/* The peer is told the alert, and nothing else, ever. */
static void expect_alert(unsigned alert, const char *what)
{
    struct iovec data = {(void *)"data", 4};
    uint8_t type;
    struct span content;
    cr_assert(tls_record_owes(&pair.record), "%s", what);
    struct tls_sealed sealed = tls_record_seal(
        &pair.record, crypto, &data, 1, 0, wire, sizeof(wire));
    cr_assert_eq(sealed.data, 0, "%s", what);
    cr_assert_eq(sealed.answers, sealed.bytes, "%s", what);
    cr_assert(sealed.ended, "%s", what);
    cr_assert_eq(
        tls_peer_open(&pair.peer, wire, sealed.bytes, &type, &content), sealed.bytes, "%s", what);
    cr_assert_eq(type, 21, "%s", what);
    cr_assert_eq(content.n, 2, "%s", what);
    cr_assert_eq(content.p[0], 2, "%s", what);
    cr_assert_eq((uint8_t)content.p[1], alert, "%s", what);
}

static void expect_silence(const char *what)
{
    struct iovec data = {(void *)"data", 4};
    cr_assert(!tls_record_owes(&pair.record), "%s", what);
    struct tls_sealed sealed = tls_record_seal(
        &pair.record, crypto, &data, 1, 0, wire, sizeof(wire));
    cr_assert_eq(sealed.bytes, 0, "%s", what);
    cr_assert(sealed.ended, "%s", what);
    const size_t n = tls_peer_seal(&pair.peer, 23, "more", 4, 0, wire);
    struct tls_opened opened = open_wire(n, false);
    cr_assert_eq(opened.event, TLS_EVENT_FATAL, "%s", what);
    cr_assert_eq(opened.used, n, "%s", what);
    cr_assert_eq(opened.data, 0, "%s", what);
}

static void expect_outcome(const struct tls_opened *opened, unsigned outcome, const char *what)
{
    if (outcome == TLS_FINE) {
        cr_assert_eq(opened->event, TLS_EVENT_MORE, "%s: alert %u", what, opened->alert);
    } else if (outcome == TLS_ENDS) {
        cr_assert_eq(opened->event, TLS_EVENT_END, "%s", what);
        cr_assert(tls_record_ended(&pair.record), "%s", what);
    } else {
        cr_assert_eq(opened->event, TLS_EVENT_FATAL, "%s: event %d", what, opened->event);
        cr_assert_eq(opened->alert, outcome & 255, "%s: alert %u", what, opened->alert);
        cr_assert_eq(opened->received, outcome >= TLS_RECEIVED, "%s", what);
        if (outcome < TLS_RECEIVED)
            expect_alert(outcome, what);
        expect_silence(what);
    }
}

static void try_parts(
    const struct tls_violation *violation, const struct tls_pair_config *config, bool in_place)
{
    tls_pair_init(&pair, crypto, config, 1);
    struct tls_opened opened = {0};
    for (size_t i = 0; i < ARRAY_LEN(violation->parts) && violation->parts[i].type != 0; i++) {
        const struct tls_part *part = &violation->parts[i];
        cr_assert_eq(opened.event, TLS_EVENT_MORE, "%s", violation->what);
        const size_t n = tls_peer_seal(
            &pair.peer, part->type, part->content, part->n, part->padding, wire);
        opened = open_wire(n, in_place);
        cr_assert_eq(opened.used, n);
        cr_assert_eq(opened.data, part->type == 23 && opened.event == TLS_EVENT_MORE ? part->n : 0);
        cr_assert_eq(memcmp(in_place ? wire : plain, part->content, opened.data), 0);
    }
    expect_outcome(&opened, violation->outcome, violation->what);
    tls_pair_deinit(&pair);
}

Test(tls_violations, table)
{
    crypto = tls_crypto_new();
    cr_assert_not_null(crypto);
    for (size_t v = 0; v < tls_violations_n; v++) {
        unsigned tried = 0;
        for (unsigned i = 0; i < TLS_PAIRS; i++) {
            const struct tls_pair_config config = tls_pair_nth(i);
            if (!applies(tls_violations[v].where, &config))
                continue;
            try_parts(&tls_violations[v], &config, true);
            try_parts(&tls_violations[v], &config, false);
            tried++;
        }
        cr_assert_geq(tried, TLS_SUITES, "%s", tls_violations[v].what);
    }
    tls_crypto_free(crypto);
}

/* What is changed in a record of data, of 100 bytes, after it was sealed. */
static const struct forgery {
    const char *what;
    unsigned where;
    unsigned outcome;
    int at; /* negative: from the end */
    uint8_t flip;
} forgeries[] = {
    {"a bit of the tag", TLS_ANY, TLS_ALERT_BAD_RECORD_MAC, -1, 1},
    {"a bit of the content", TLS_ANY, TLS_ALERT_BAD_RECORD_MAC, 20, 128},
    {"the first bit behind the header", TLS_ANY, TLS_ALERT_BAD_RECORD_MAC, 5, 1},
    {"alert instead of data", TLS_V13 | TLS_ROLES, TLS_ALERT_UNEXPECTED_MESSAGE, 0, 23 ^ 21},
    {"alert instead of data", TLS_V12 | TLS_ROLES, TLS_ALERT_BAD_RECORD_MAC, 0, 23 ^ 21},
    {"change_cipher_spec instead of data", TLS_ANY, TLS_ALERT_UNEXPECTED_MESSAGE, 0, 23 ^ 20},
    {"another version", TLS_V13 | TLS_ROLES, TLS_ALERT_BAD_RECORD_MAC, 2, 1},
    {"another version", TLS_V12 | TLS_ROLES, TLS_ALERT_PROTOCOL_VERSION, 2, 1},
    {"another major version", TLS_V12 | TLS_ROLES, TLS_ALERT_PROTOCOL_VERSION, 1, 1},
    {"a byte less", TLS_ANY, TLS_ALERT_BAD_RECORD_MAC, 4, 1}, /* the lengths are odd, see below */
    {"far more bytes", TLS_ANY, TLS_ALERT_RECORD_OVERFLOW, 3, 128},
};

Test(tls_violations, forged)
{
    static const char content[100];
    crypto = tls_crypto_new();
    for (size_t f = 0; f < ARRAY_LEN(forgeries); f++) {
        for (unsigned i = 0; i < TLS_PAIRS; i++) {
            const struct tls_pair_config config = tls_pair_nth(i);
            if (!applies(forgeries[f].where, &config))
                continue;
            tls_pair_init(&pair, crypto, &config, 1);
            /* So that the length is odd, and one bit makes it smaller. */
            const size_t content_n = config.v13 ? 100 : 99;
            const size_t n = tls_peer_seal(&pair.peer, 23, content, content_n, 0, wire);
            cr_assert_eq(wire[4] & 1, 1);
            wire[forgeries[f].at < 0 ? (int)n + forgeries[f].at : forgeries[f].at] ^=
                forgeries[f].flip;
            struct tls_opened opened = open_wire(n, i % 4 < 2);
            cr_assert_eq(opened.data, 0);
            expect_outcome(&opened, forgeries[f].outcome, forgeries[f].what);
            tls_pair_deinit(&pair);
        }
    }
    tls_crypto_free(crypto);
}

/* The record has been there before, or is the one after the next. */
Test(tls_violations, out_of_order)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < 2 * TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i / 2);
        tls_pair_init(&pair, crypto, &config, 1);
        static uint8_t copy[200];
        size_t n = tls_peer_seal(&pair.peer, 23, "first", 5, 0, wire);
        memcpy(copy, wire, n);
        struct tls_opened opened = open_wire(n, true);
        cr_assert_eq(opened.data, 5);
        if (i % 2 == 0) {
            memcpy(wire, copy, n);
        } else {
            n = tls_peer_seal(&pair.peer, 23, "left out", 8, 0, wire);
            n = tls_peer_seal(&pair.peer, 23, "second", 6, 0, wire);
        }
        opened = open_wire(n, true);
        expect_outcome(&opened, TLS_ALERT_BAD_RECORD_MAC, "out of order");
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}

/* Bodies that are encrypted as they are. */
static const struct raw {
    const char *what;
    unsigned where;
    unsigned outcome;
    uint8_t outer_type;
    size_t zeroes;
} raws[] = {
    {"no type", TLS_V13 | TLS_ROLES, TLS_ALERT_BAD_RECORD_MAC, 23, 0},
    {"only padding", TLS_V13 | TLS_ROLES, TLS_ALERT_UNEXPECTED_MESSAGE, 23, 1},
    {"only padding", TLS_V13 | TLS_ROLES, TLS_ALERT_UNEXPECTED_MESSAGE, 23, TLS_FRAGMENT_MAX + 1},
    {"an encrypted alert", TLS_V13 | TLS_ROLES, TLS_ALERT_UNEXPECTED_MESSAGE, 21, 2},
    {"an encrypted handshake", TLS_V13 | TLS_ROLES, TLS_ALERT_UNEXPECTED_MESSAGE, 22, 5},
    {"an unknown outer type", TLS_V13 | TLS_ROLES, TLS_ALERT_UNEXPECTED_MESSAGE, 0, 5},
};

Test(tls_violations, raw)
{
    static const uint8_t zeroes[TLS_FRAGMENT_MAX + 1];
    crypto = tls_crypto_new();
    for (size_t r = 0; r < ARRAY_LEN(raws); r++) {
        for (unsigned i = 0; i < TLS_PAIRS; i++) {
            const struct tls_pair_config config = tls_pair_nth(i);
            if (!applies(raws[r].where, &config))
                continue;
            tls_pair_init(&pair, crypto, &config, 1);
            const size_t n = tls_peer_seal_raw(
                &pair.peer, raws[r].outer_type, zeroes, raws[r].zeroes, wire);
            struct tls_opened opened = open_wire(n, true);
            expect_outcome(&opened, raws[r].outcome, raws[r].what);
            tls_pair_deinit(&pair);
        }
    }
    tls_crypto_free(crypto);
}

/* A header that is wrong is refused before the record is there; any byte of it is waited for. */
Test(tls_violations, header_alone)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i);
        const bool gcm12 = !config.v13 && config.record.suite != TLS_CHACHA20;
        const size_t beyond = config.v13 ? 17 : gcm12 ? 24 : 16;
        const struct {
            size_t body;
            unsigned alert; /* 0: fine */
        } lengths[] = {
            {beyond - 1, TLS_ALERT_BAD_RECORD_MAC},
            {0, TLS_ALERT_BAD_RECORD_MAC},
            {beyond, 0},
            {TLS_FRAGMENT_MAX + beyond, 0},
            {TLS_FRAGMENT_MAX + beyond + 1, TLS_ALERT_RECORD_OVERFLOW},
            {65535, TLS_ALERT_RECORD_OVERFLOW},
        };
        for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
            tls_pair_init(&pair, crypto, &config, 1);
            const uint8_t header[] = {
                23, 3, 3, (uint8_t)(lengths[l].body >> 8), (uint8_t)lengths[l].body};
            for (size_t n = 0; n < 5; n++) {
                memcpy(wire, header, 5);
                struct tls_opened opened = open_wire(n, n % 2 == 0);
                cr_assert_eq(opened.event, TLS_EVENT_MORE);
                cr_assert_eq(opened.used, 0);
                cr_assert_eq(opened.missing, 5 - n);
            }
            struct tls_opened opened = open_wire(5, true);
            if (lengths[l].alert == 0) {
                cr_assert_eq(opened.event, TLS_EVENT_MORE);
                cr_assert_eq(opened.missing, lengths[l].body);
                cr_assert_eq(opened.used, 0);
            } else {
                expect_outcome(&opened, lengths[l].alert, "a header");
            }
            tls_pair_deinit(&pair);
        }
    }
    tls_crypto_free(crypto);
}

/* Records without data in a row, of every kind: the last that is allowed, and one more. */
Test(tls_violations, barren)
{
    static const struct {
        unsigned where;
        struct tls_part part;
    } kinds[] = {
        {TLS_ANY, TLS_PART(23, "")},
        {TLS_V13 | TLS_ROLES, TLS_PART(22, "\30\0\0\1\0")},
        {TLS_V13 | TLS_ROLES, TLS_PART(22, "\30\0\0\1\1")},
        {TLS_ANY, TLS_PART(21, "\1\132")},
        {TLS_V13 | TLS_CLIENT, TLS_PART(22, "\4\0\0\1a")},
        {TLS_V12 | TLS_SERVER, TLS_PART(22, "\1\0\0\1a")},
        {TLS_V12 | TLS_CLIENT, TLS_PART(22, "\0\0\0\0")},
    };
    crypto = tls_crypto_new();
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (unsigned i = 0; i < TLS_PAIRS; i++) {
            const struct tls_pair_config config = tls_pair_nth(i);
            if (!applies(kinds[k].where, &config))
                continue;
            tls_pair_init(&pair, crypto, &config, 1);
            const struct tls_part *part = &kinds[k].part;
            for (unsigned round = 0; round < 2; round++) {
                for (unsigned n = 0; n < TLS_BARREN_MAX + round; n++) {
                    const size_t size = tls_peer_seal(
                        &pair.peer, part->type, part->content, part->n, 0, wire);
                    if (part->type == 22 && config.v13 && part->content[0] == 24)
                        tls_peer_update(&pair.peer, &pair.peer.write);
                    struct tls_opened opened = open_wire(size, true);
                    if (n < TLS_BARREN_MAX)
                        cr_assert_eq(opened.event, TLS_EVENT_MORE, "%u of kind %zu", n, k);
                    else
                        expect_outcome(&opened, TLS_ALERT_UNEXPECTED_MESSAGE, "too many");
                }
                if (round == 1)
                    break;
                struct tls_opened opened = open_wire(
                    tls_peer_seal(&pair.peer, 23, "x", 1, 0, wire), true);
                cr_assert_eq(opened.data, 1);
            }
            tls_pair_deinit(&pair);
        }
    }
    tls_crypto_free(crypto);
}

/* max_fragment_length holds for both sides, record_size_limit for what is sent. */
Test(tls_violations, fragment_max)
{
    static const char content[600];
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < 4 * TLS_PAIRS; i++) {
        struct tls_pair_config config = tls_pair_nth(i / 4);
        const size_t n = i % 2 == 0 ? 512 : 513;
        config.record.held = i % 4 < 2;
        config.record.fragment_max = 512;
        tls_pair_init(&pair, crypto, &config, 1);
        struct tls_opened opened = open_wire(
            tls_peer_seal(&pair.peer, 23, content, n, 0, wire), true);
        if (n == 513 && config.record.held) {
            expect_outcome(&opened, TLS_ALERT_RECORD_OVERFLOW, "more than fragment_max");
        } else {
            cr_assert_eq(opened.data, n);
            cr_assert_eq(opened.event, TLS_EVENT_MORE);
        }
        tls_pair_deinit(&pair);
    }
    tls_crypto_free(crypto);
}
