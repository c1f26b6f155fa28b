/*
 * The input is what a peer that knows its keys sends after the handshake. Its first two bytes
 * choose version, suite, role and how the bytes are read; then each part begins with a byte that
 * says what it is: a record that the peer seals with the content that follows, the same with a byte
 * of it changed, a KeyUpdate after which it uses its next key, or bytes as they are. At times the
 * state moves, or this side says something. The peer must be able to read all that this side says,
 * no nonce is used twice, and no data is made up.
 */

#include <string.h>

#include "tests/unit/support/tls_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    WIRE_MAX = 1 << 16,
    NONCES_MAX = 4096,
};

enum part {
    PART_RECORD,
    PART_CHANGED,
    PART_KEY_UPDATE,
    PART_BYTES,
    PART_MOVE,
    PART_SAY,
    PART_CLOSE,
    PARTS,
};

static struct fuzz {
    struct tls_crypto *ours;   /* contexts of this side */
    struct tls_crypto *theirs; /* of the peer */
    struct tls_pair pair;
    uint8_t wire[WIRE_MAX]; /* from the peer, not used yet */
    size_t n;
    uint8_t sealed[NONCES_MAX][TLS_KEY_MAX + TLS_NONCE_SIZE];
    size_t sealed_n;
    size_t said; /* bytes that the peer has sealed and that may be data */
    size_t heard;
    bool in_place;
} fuzz;

static void on_seal(
    void *arg, const uint8_t key[static TLS_KEY_MAX], const uint8_t nonce[static TLS_NONCE_SIZE])
{
    (void)arg;
    CHECK(fuzz.sealed_n < NONCES_MAX);
    uint8_t *both = fuzz.sealed[fuzz.sealed_n];
    memcpy(both, key, TLS_KEY_MAX);
    memcpy(both + TLS_KEY_MAX, nonce, TLS_NONCE_SIZE);
    for (size_t i = 0; i < fuzz.sealed_n; i++)
        CHECK(memcmp(fuzz.sealed[i], both, sizeof(fuzz.sealed[i])) != 0);
    fuzz.sealed_n++;
}

/* The peer reads all of it, and goes over to the next key where it is told to. */
static void peer_reads(uint8_t *bytes, size_t n)
{
    while (n > 0) {
        uint8_t type;
        struct span content;
        const size_t used = tls_peer_open(&fuzz.pair.peer, bytes, n, &type, &content);
        CHECK(used > 0);
        if (type == 22)
            tls_peer_update(&fuzz.pair.peer, &fuzz.pair.peer.read);
        else
            CHECK(type == 23 || (type == 21 && content.n == 2));
        bytes += used;
        n -= used;
    }
}

static void say(size_t n)
{
    static uint8_t data[256], out[1024];
    const struct iovec iov = {data, n};
    const struct tls_sealed sealed = tls_record_seal(
        &fuzz.pair.record, fuzz.ours, &iov, 1, 0, out, sizeof(out));
    CHECK(sealed.error == 0 && sealed.bytes <= sizeof(out) && sealed.data <= n);
    CHECK(!sealed.ended || sealed.data == 0);
    peer_reads(out, sealed.bytes);
    CHECK(!tls_record_owes(&fuzz.pair.record));
}

/* Reads what is there. */
static void hear(void)
{
    static uint8_t plain[WIRE_MAX];
    const bool ended = tls_record_ended(&fuzz.pair.record);
    uint8_t *bytes = malloc(fuzz.n); /* ends where it ends */
    CHECK(bytes != NULL || fuzz.n == 0);
    if (fuzz.n > 0)
        memcpy(bytes, fuzz.wire, fuzz.n);
    const struct tls_opened opened = tls_record_open(&fuzz.pair.record, fuzz.ours, bytes, fuzz.n,
        fuzz.in_place ? bytes : plain, fuzz.in_place ? fuzz.n : WIRE_MAX);
    CHECK(opened.used <= fuzz.n && opened.data <= opened.used);
    CHECK(opened.event != TLS_EVENT_ROOM && (!ended || opened.data == 0));
    if (opened.event == TLS_EVENT_MORE)
        CHECK(opened.missing > 0 && opened.missing <= TLS_RECORD_MAX);
    else
        CHECK(opened.used == fuzz.n);
    fuzz.heard += opened.data;
    CHECK(fuzz.heard <= fuzz.said);
    fuzz.n -= opened.used;
    if (fuzz.n > 0)
        memcpy(fuzz.wire, bytes + opened.used, fuzz.n);
    free(bytes);
}

static void move(void)
{
    struct buf state = {0};
    struct pack pack = {.out = &state};
    struct tls_record moved;
    tls_record_save(&fuzz.pair.record, &pack);
    struct unpack unpack = {.left = {buf_data(&state), buf_len(&state)}};
    CHECK(tls_record_restore(&moved, &unpack, TLS_RECORD_SAVED) == 0);
    CHECK(unpack_end(&unpack) == 0);
    CHECK(memcmp(&moved, &fuzz.pair.record, sizeof(moved)) == 0);
    buf_deinit(&state);
}

static struct span cut(const uint8_t **p, const uint8_t *end, size_t n)
{
    n = MIN(n, (size_t)(end - *p));
    const struct span span = {(const char *)*p, n};
    *p += n;
    return span;
}

static uint8_t byte(const uint8_t **p, const uint8_t *end)
{
    return *p < end ? *(*p)++ : 0;
}

static void run_part(const uint8_t **p, const uint8_t *end)
{
    struct tls_peer *peer = &fuzz.pair.peer;
    const unsigned part = byte(p, end) % PARTS;
    uint8_t *at = fuzz.wire + fuzz.n;
    if (fuzz.n + TLS_PEER_ROOM > WIRE_MAX) /* only what was not whole is left */
        return;
    if (part == PART_RECORD || part == PART_CHANGED) {
        const uint8_t type = byte(p, end), padding = byte(p, end);
        const struct span content = cut(p, end, byte(p, end));
        const size_t n = tls_peer_seal(peer, type, content.p, content.n, padding, at);
        if (part == PART_CHANGED)
            at[(byte(p, end) * 256u + byte(p, end)) % n] ^= byte(p, end);
        if (type == 23 || type == 0 || part == PART_CHANGED) /* 0 is padding, too */
            fuzz.said += content.n;
        fuzz.n += n;
    } else if (part == PART_KEY_UPDATE) {
        const uint8_t content[] = {24, 0, 0, 1, byte(p, end)};
        fuzz.n += tls_peer_seal(peer, 22, content, sizeof(content), 0, at);
        tls_peer_update(peer, &peer->write);
    } else if (part == PART_BYTES) {
        const struct span bytes = cut(p, end, byte(p, end));
        if (bytes.n > 0)
            memcpy(at, bytes.p, bytes.n);
        fuzz.n += bytes.n;
    } else if (part == PART_MOVE) {
        move();
    } else if (part == PART_SAY) {
        say(byte(p, end));
    } else {
        tls_record_close(&fuzz.pair.record);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *p = data, *end = data + size;
    if (fuzz.ours == NULL) {
        fuzz.ours = tls_crypto_new();
        fuzz.theirs = tls_crypto_new();
        CHECK(fuzz.ours != NULL && fuzz.theirs != NULL);
    }
    struct tls_pair_config config = tls_pair_nth(byte(&p, end) % TLS_PAIRS);
    const uint8_t how = byte(&p, end);
    fuzz.in_place = how & 1;
    config.record.held = how & 2;
    config.record.fragment_max = how & 4 ? TLS_FRAGMENT_MIN : TLS_FRAGMENT_MAX;
    fuzz.n = fuzz.sealed_n = fuzz.said = fuzz.heard = 0;
    tls_crypto_watch(
        fuzz.ours, NULL, NULL); /* the peer's last record of a handshake is made here */
    tls_pair_init(&fuzz.pair, fuzz.ours, &config, 1);
    tls_crypto_watch(fuzz.ours, on_seal, NULL);
    fuzz.pair.peer.crypto = fuzz.theirs;
    for (unsigned parts = 0; p < end && parts < 1000; parts++) {
        run_part(&p, end);
        if (how & 8 || parts % 4 == 0)
            hear();
    }
    hear();
    move();
    say(100);
    tls_keys_wipe(&fuzz.pair.peer.read, fuzz.theirs);
    tls_keys_wipe(&fuzz.pair.peer.write, fuzz.theirs);
    tls_pair_deinit(&fuzz.pair);
    CHECK(tls_crypto_keyed(fuzz.ours) == 0 && tls_crypto_keyed(fuzz.theirs) == 0);
    return 0;
}
