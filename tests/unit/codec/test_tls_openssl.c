#include <criterion/criterion.h>
#include <string.h>

#include "common/siphash.h"
#include "frontd/codec/tls_record_internal.h"
#include "tests/unit/support/openssl_peer.h"

/*
 * The record layer against OpenSSL's, in both roles: random sizes, padding, KeyUpdates of both
 * sides, records cut anywhere, the state moved at any moment. TLS_RECORDS in the environment says
 * how many records in all (100,000), TLS_SEED which.
 */

enum {
    TEXT = 1 << 16,      /* the data repeats after that many bytes */
    PART_MAX = TEXT / 2, /* bytes that are said at a time */
    WIRE_MAX = 1 << 18,  /* what OpenSSL says before this side listens */
};

static uint8_t text[2 * TEXT];
static uint64_t random_state;

static uint32_t any(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % below);
}

/* Mostly small, at times more than a record. */
static size_t any_size(void)
{
    switch (any(16)) {
    case 0: return 1 + any(PART_MAX);
    case 1: return TLS_FRAGMENT_MAX - 2 + any(5);
    case 2: return 1 + any(4096);
    default: return 1 + any(400);
    }
}

/* Every (key, nonce) that was sealed with, as hashes: no two are the same. */
static struct seen {
    uint64_t *hashes;
    size_t size; /* a power of two */
    size_t n;
} seen;

static void on_seal(
    void *arg, const uint8_t key[static TLS_KEY_MAX], const uint8_t nonce[static TLS_NONCE_SIZE])
{
    static const struct hash_key hash_key = {0};
    struct seen *all = arg;
    uint8_t both[TLS_KEY_MAX + TLS_NONCE_SIZE];
    memcpy(both, key, TLS_KEY_MAX);
    memcpy(both + TLS_KEY_MAX, nonce, TLS_NONCE_SIZE);
    const uint64_t hash = hash_bytes(&hash_key, both, sizeof(both)) | 1;
    size_t at = hash & (all->size - 1);
    for (; all->hashes[at] != 0; at = (at + 1) & (all->size - 1))
        cr_assert_neq(all->hashes[at], hash, "a nonce has been used twice");
    all->hashes[at] = hash;
    cr_assert_lt(++all->n, all->size / 2);
}

/* A connection, and how far each side has got. */
static struct talk {
    struct tls_crypto *crypto;
    struct openssl_peer peer;
    bool v13;
    uint32_t padding;               /* bytes of a record that it is filled up to, at most */
    uint64_t said, heard;           /* bytes of data by this side, and to it */
    uint64_t peer_said, peer_heard; /* the same of OpenSSL */
    uint64_t records;               /* in both directions, about */
    uint8_t in[WIRE_MAX], plain[WIRE_MAX], out[WIRE_MAX];
    size_t in_n;
} talk;

/* OpenSSL reads what is there. */
static void peer_hears(void)
{
    static uint8_t data[TEXT];
    int n;
    while ((n = SSL_read(talk.peer.ssl, data, sizeof(data))) > 0) {
        cr_assert_eq(memcmp(data, text + talk.peer_heard % TEXT, (size_t)n), 0);
        talk.peer_heard += (uint64_t)n;
    }
    const int error = SSL_get_error(talk.peer.ssl, n);
    cr_assert(error == SSL_ERROR_WANT_READ || error == SSL_ERROR_ZERO_RETURN, "%d", error);
}

/* Bytes go to OpenSSL in pieces, cut anywhere. */
static void deliver(const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        const size_t part = any(4) == 0 ? 1 + any((uint32_t)n) : n;
        cr_assert_eq(BIO_write(talk.peer.in, bytes, (int)part), (int)part);
        if (any(2) == 0)
            peer_hears();
        bytes += part;
        n -= part;
    }
    peer_hears();
}

/* This side says `n` bytes, and what it owes, from several pieces of memory. */
static void we_say(size_t n)
{
    size_t done = 0;
    do {
        const uint8_t *from = text + talk.said % TEXT;
        const size_t left = n - done;
        const size_t first = left > 0 ? any((uint32_t)left + 1) : 0;
        const size_t skip = any(2) == 0 ? 0 : any((uint32_t)(talk.said % TEXT) + 1);
        const struct iovec iov[] = {{(void *)(from - skip), skip + first}, {NULL, 0},
            {(void *)(from + first), left - first}};
        const size_t room = any(4) == 0 ? TLS_ANSWERS_MAX + any(40000) : WIRE_MAX;
        struct tls_sealed sealed = tls_record_seal(
            &talk.peer.record, talk.crypto, iov, 3, skip, talk.out, room);
        cr_assert_eq(sealed.error, 0);
        cr_assert_leq(sealed.bytes, room);
        cr_assert(!sealed.ended);
        cr_assert_leq(sealed.data, left);
        const size_t fragment = talk.peer.record.fragment_max;
        talk.records += (sealed.data + fragment - 1) / fragment + (sealed.answers > 0);
        talk.said += sealed.data;
        done += sealed.data;
        deliver(talk.out, sealed.bytes);
    } while (done < n);
    cr_assert_eq(talk.peer_heard, talk.said);
}

static void take_data(const uint8_t *data, size_t n)
{
    while (n > 0) {
        const size_t part = MIN(n, (size_t)TEXT);
        cr_assert_eq(memcmp(data, text + talk.heard % TEXT, part), 0);
        talk.heard += part;
        data += part;
        n -= part;
    }
}

/* Opens what is in `in`, up to a random byte of it. */
static struct tls_opened open_some(size_t n)
{
    struct tls_opened opened;
    if (any(2) == 0) {
        opened = tls_record_open(&talk.peer.record, talk.crypto, talk.in, n, talk.in, n);
        take_data(talk.in, opened.data);
    } else {
        const size_t room = any(4) == 0 ? any(20000) : WIRE_MAX;
        opened = tls_record_open(&talk.peer.record, talk.crypto, talk.in, n, talk.plain, room);
        cr_assert_leq(opened.data, room);
        if (opened.event == TLS_EVENT_ROOM)
            cr_assert_gt(opened.missing, room - opened.data);
        take_data(talk.plain, opened.data);
    }
    cr_assert_leq(opened.used, n);
    cr_assert(opened.event != TLS_EVENT_FATAL, "%s", tls_alert_name(opened.alert));
    talk.in_n -= opened.used;
    memmove(talk.in, talk.in + opened.used, talk.in_n);
    return opened;
}

/* The state goes through another process. */
static void move(void)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    struct tls_record moved;
    tls_record_save(&talk.peer.record, &pack);
    cr_assert_leq(buf_len(&state), TLS_RECORD_SAVED_MAX);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    cr_assert_eq(tls_record_restore(&moved, &unpack, TLS_RECORD_SAVED), 0);
    cr_assert_eq(unpack_end(&unpack), 0);
    tls_record_wipe(&talk.peer.record, talk.crypto);
    talk.peer.record = moved;
    buf_deinit(&state);
}

/* This side reads what OpenSSL has sent. */
static void we_hear(void)
{
    const size_t n = BIO_ctrl_pending(talk.peer.out);
    cr_assert_leq(talk.in_n + n, sizeof(talk.in));
    if (n > 0)
        cr_assert_eq(BIO_read(talk.peer.out, talk.in + talk.in_n, (int)n), (int)n);
    talk.in_n += n;
    struct tls_opened opened = {0};
    while (talk.in_n > 0 && opened.event != TLS_EVENT_END) {
        opened = open_some(any(3) == 0 ? 1 + any((uint32_t)talk.in_n) : talk.in_n);
        if (any(64) == 0)
            move();
    }
    cr_assert_eq(talk.heard, talk.peer_said);
    we_say(0);
}

static void peer_says(size_t n)
{
    if (talk.v13 && any(4) == 0)
        cr_assert_eq(
            SSL_set_block_padding(talk.peer.ssl, any(2) == 0 ? 0 : 1 + any(talk.padding)), 1);
    if (talk.v13 && any(32) == 0)
        cr_assert_eq(SSL_key_update(talk.peer.ssl,
                         any(2) == 0 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED),
            1);
    cr_assert_eq(SSL_write(talk.peer.ssl, text + talk.peer_said % TEXT, (int)n), (int)n);
    talk.peer_said += n;
    const size_t fragment = talk.peer.record.fragment_max;
    talk.records += (n + fragment - 1) / fragment;
}

static void talk_begin(const struct openssl_config *config)
{
    talk = (struct talk){.crypto = tls_crypto_new(), .v13 = config->v13, .padding = 2000};
    cr_assert_not_null(talk.crypto);
    tls_crypto_watch(talk.crypto, on_seal, &seen);
    openssl_peer_init(&talk.peer, talk.crypto, config);
    cr_assert_eq(tls_record_prove(&talk.peer.record, talk.crypto, talk.peer.proof), 0);
    if (config->v13 && !config->client)
        cr_assert_eq(talk.peer.record.write.sequence, config->tickets);
}

/* close_notify of both sides, in either order. */
static void talk_end(bool peer_first)
{
    if (peer_first)
        cr_assert_eq(SSL_shutdown(talk.peer.ssl), 0);
    tls_record_close(&talk.peer.record);
    struct tls_sealed sealed = tls_record_seal(
        &talk.peer.record, talk.crypto, NULL, 0, 0, talk.out, sizeof(talk.out));
    cr_assert(sealed.ended);
    cr_assert_eq(BIO_write(talk.peer.in, talk.out, (int)sealed.bytes), (int)sealed.bytes);
    uint8_t byte;
    cr_assert_leq(SSL_read(talk.peer.ssl, &byte, 1), 0);
    cr_assert(SSL_get_shutdown(talk.peer.ssl) & SSL_RECEIVED_SHUTDOWN);
    if (!peer_first)
        SSL_shutdown(talk.peer.ssl);
    talk.in_n = (size_t)BIO_read(talk.peer.out, talk.in, sizeof(talk.in));
    struct tls_opened opened = open_some(talk.in_n);
    cr_assert_eq(opened.event, TLS_EVENT_END);
    cr_assert(tls_record_ended(&talk.peer.record));
    openssl_peer_deinit(&talk.peer, talk.crypto);
    cr_assert_eq(tls_crypto_keyed(talk.crypto), 0, "a key is left behind");
    tls_crypto_free(talk.crypto);
}

static void init(size_t records)
{
    const char *seed = getenv("TLS_SEED");
    random_state = seed == NULL ? 1 : strtoull(seed, NULL, 0);
    for (size_t i = 0; i < TEXT; i++)
        text[i] = text[i + TEXT] = (uint8_t)any(256);
    for (seen.size = 1024; seen.size < 2 * records + 1024; seen.size *= 2)
        ;
    seen.hashes = calloc(seen.size, sizeof(*seen.hashes));
    cr_assert_not_null(seen.hashes);
}

static void talk_about(const struct openssl_config *config, uint64_t records)
{
    talk_begin(config);
    while (talk.records < records) {
        for (unsigned n = any(4); n > 0; n--)
            peer_says(any_size());
        we_hear();
        if (talk.v13 && any(64) == 0)
            talk.peer.record.owes |= any(2) == 0 ? TLS_OWES_KEY_UPDATE
                                                 : TLS_OWES_KEY_UPDATE | TLS_OWES_REQUEST;
        for (unsigned n = any(4); n > 0; n--)
            we_say(any_size());
        we_hear(); /* an answer to a KeyUpdate */
    }
    talk_end(any(2) == 0);
}

Test(tls_openssl, differential, .timeout = 3600)
{
    const char *wanted = getenv("TLS_RECORDS");
    const uint64_t records = wanted == NULL ? 100000 : strtoull(wanted, NULL, 0);
    uint64_t done = 0;
    init(records);
    for (unsigned i = 0; i < OPENSSL_CONFIGS; i++) {
        const struct openssl_config config = openssl_config_nth(i);
        talk_about(&config, records / OPENSSL_CONFIGS);
        done += talk.records;
    }
    if (wanted != NULL)
        fprintf(stderr, "%lu records, %zu nonces\n", (unsigned long)done, seen.n);
    free(seen.hashes);
}

/* max_fragment_length, which both sides keep to. */
Test(tls_openssl, max_fragment_length)
{
    init(100000);
    for (unsigned i = 0; i < 4 * OPENSSL_CONFIGS; i++) {
        struct openssl_config config = openssl_config_nth(i / 4);
        config.max_fragment = (uint8_t)(1 + i % 4);
        talk_about(&config, 300);
    }
    free(seen.hashes);
}

/* A stream of OpenSSL's, cut at every byte, gives the same as in one piece; the state moves there.
 */
Test(tls_openssl, cut_at_every_byte)
{
    static uint8_t stream[4096];
    init(100000);
    for (unsigned i = 0; i < OPENSSL_CONFIGS; i++) {
        const struct openssl_config config = openssl_config_nth(i);
        talk_begin(&config);
        talk.padding = 50;
        for (unsigned n = 0; n < 3; n++) {
            if (config.v13 && n == 1)
                SSL_key_update(talk.peer.ssl, SSL_KEY_UPDATE_REQUESTED);
            peer_says(1 + any(100));
        }
        SSL_shutdown(talk.peer.ssl);
        const int n = BIO_read(talk.peer.out, stream, sizeof(stream));
        cr_assert(n > 0 && n < (int)sizeof(stream));
        const struct tls_record before = talk.peer.record;
        for (int cut = 0; cut <= n; cut++) {
            talk.peer.record = before;
            talk.heard = 0;
            memcpy(talk.in, stream, (size_t)cut);
            talk.in_n = (size_t)cut;
            struct tls_opened opened = open_some(talk.in_n);
            cr_assert_eq(opened.event == TLS_EVENT_END, cut == n);
            const size_t missing = opened.missing;
            move();
            memcpy(talk.in + talk.in_n, stream + cut, (size_t)(n - cut));
            talk.in_n += (size_t)(n - cut);
            if (opened.event == TLS_EVENT_MORE) /* what was missing makes a record, or a header */
                cr_assert_leq(missing, (size_t)(n - cut));
            for (int tries = 0; opened.event != TLS_EVENT_END && tries < 100; tries++)
                opened = open_some(talk.in_n);
            cr_assert_eq(opened.event, TLS_EVENT_END);
            cr_assert_eq(talk.heard, talk.peer_said);
        }
        openssl_peer_deinit(&talk.peer, talk.crypto);
        tls_crypto_free(talk.crypto);
    }
    free(seen.hashes);
}
