#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/support/tls_peer.h"

/* AEAD contexts: which are kept, which go, and that nothing of a key stays behind. */

static struct tls_crypto *crypto;
static const uint8_t nonce[TLS_NONCE_SIZE], aad[5];

/* A key for each number. */
static void make_key(unsigned number, uint8_t ret_key[static TLS_KEY_MAX])
{
    for (unsigned i = 0; i < TLS_KEY_MAX; i++)
        ret_key[i] = (uint8_t)((number * 2654435761u) >> (i % 4 * 8)) ^ (uint8_t)(i * 37 + 1);
}

static int seal(enum tls_suite suite, const uint8_t *key, uint8_t *bytes, size_t n)
{
    const struct tls_sealing sealing = {suite, key, nonce, aad, sizeof(aad)};
    return tls_crypto_seal(crypto, &sealing, bytes, n);
}

static int decrypt(
    enum tls_suite suite, const uint8_t *key, const uint8_t *in, size_t n, uint8_t *out)
{
    const struct tls_sealing sealing = {suite, key, nonce, aad, sizeof(aad)};
    return tls_crypto_open(crypto, &sealing, in, n, out);
}

static void use(unsigned number)
{
    uint8_t key[TLS_KEY_MAX], bytes[TLS_TAG_SIZE];
    make_key(number, key);
    cr_assert_eq(seal(number % TLS_SUITES, key, bytes, 0), 0);
}

/* Whether a context has the key: forgetting it makes them fewer. */
static bool forget(unsigned number)
{
    const size_t before = tls_crypto_keyed(crypto);
    uint8_t key[TLS_KEY_MAX];
    make_key(number, key);
    tls_crypto_forget(crypto, key);
    return tls_crypto_keyed(crypto) < before;
}

Test(tls_crypto, least_recently_used)
{
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < TLS_CONTEXTS; i++)
        use(i);
    cr_assert_eq(tls_crypto_keyed(crypto), TLS_CONTEXTS);
    use(0); /* so that 1 is the oldest */
    use(TLS_CONTEXTS);
    cr_assert_eq(tls_crypto_keyed(crypto), TLS_CONTEXTS);
    cr_assert(!forget(1));
    cr_assert(forget(0));
    cr_assert(forget(2));
    cr_assert(forget(TLS_CONTEXTS));
    cr_assert(!forget(TLS_CONTEXTS), "it is forgotten");
    cr_assert_eq(tls_crypto_keyed(crypto), TLS_CONTEXTS - 3);
    for (unsigned i = 3; i < TLS_CONTEXTS; i++)
        cr_assert(forget(i));
    cr_assert_eq(tls_crypto_keyed(crypto), 0);
    tls_crypto_free(crypto);
}

/* Far more keys than contexts: each record is still sealed with its own key. */
Test(tls_crypto, rekeyed)
{
    enum { KEYS = 3 * TLS_CONTEXTS + 7 };
    static uint8_t sealed[KEYS][20 + TLS_TAG_SIZE];
    crypto = tls_crypto_new();
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            uint8_t key[TLS_KEY_MAX], bytes[20 + TLS_TAG_SIZE], opened[20];
            /* Round 2 takes every other key, so that some are found and some are not. */
            const unsigned number = round == 2 ? i * 2 % KEYS : i;
            make_key(number, key);
            memset(bytes, (int)number, 20);
            cr_assert_eq(seal(number % TLS_SUITES, key, bytes, 20), 0);
            if (round == 0)
                memcpy(sealed[number], bytes, sizeof(bytes));
            cr_assert_eq(memcmp(sealed[number], bytes, sizeof(bytes)), 0);
            cr_assert_eq(decrypt(number % TLS_SUITES, key, bytes, 20, opened), 0);
            for (size_t b = 0; b < 20; b++)
                cr_assert_eq(opened[b], (uint8_t)number);
        }
    }
    cr_assert_eq(tls_crypto_keyed(crypto), TLS_CONTEXTS);
    tls_crypto_free(crypto);
}

/* What fails the check of its tag is not left in memory. */
Test(tls_crypto, wrong_tag)
{
    crypto = tls_crypto_new();
    for (unsigned suite = 0; suite < TLS_SUITES; suite++) {
        uint8_t key[TLS_KEY_MAX], bytes[100 + TLS_TAG_SIZE], out[100], zeroes[100] = {0};
        make_key(suite, key);
        memset(bytes, 'x', 100);
        cr_assert_eq(seal(suite, key, bytes, 100), 0);
        bytes[100] ^= 1;
        memset(out, 'y', sizeof(out));
        cr_assert_eq(decrypt(suite, key, bytes, 100, out), -EBADMSG);
        cr_assert_arr_eq(out, zeroes, 100);
        cr_assert_eq(decrypt(suite, key, bytes, 100, bytes), -EBADMSG);
        cr_assert_arr_eq(bytes, zeroes, 100);
    }
    tls_crypto_free(crypto);
}

static void note(void *arg, const uint8_t key[static TLS_KEY_MAX],
    const uint8_t sealed_nonce[static TLS_NONCE_SIZE])
{
    unsigned *n = arg;
    uint8_t expected[TLS_KEY_MAX];
    make_key(9, expected);
    cr_assert_arr_eq(key, expected, TLS_KEY_MAX);
    cr_assert_arr_eq(sealed_nonce, nonce, TLS_NONCE_SIZE);
    (*n)++;
}

Test(tls_crypto, watcher)
{
    uint8_t key[TLS_KEY_MAX], bytes[5 + TLS_TAG_SIZE] = {0};
    unsigned n = 0;
    crypto = tls_crypto_new();
    tls_crypto_watch(crypto, note, &n);
    make_key(9, key);
    seal(TLS_CHACHA20, key, bytes, 5);
    cr_assert_eq(n, 1);
    decrypt(TLS_CHACHA20, key, bytes, 5, bytes);
    cr_assert_eq(n, 1);
    tls_crypto_free(crypto);
}

/* Memory of libcrypto, and what of it has a key in it when it is given back, or at the end. */
enum { BLOCKS_MAX = 8192 };
static struct block {
    uint8_t *p;
    size_t n;
} blocks[BLOCKS_MAX];
static size_t blocks_n;
static uint8_t masked[4][16]; /* the beginnings of keys, XORed */
static size_t leaks;
static long fails_after = -1; /* which allocation does */
static bool counting;         /* else memory is as it always is */

static bool has_key(const uint8_t *p, size_t n)
{
    for (size_t at = 0; at + 16 <= n; at++) {
        for (size_t k = 0; k < ARRAY_LEN(masked); k++) {
            size_t same = 0;
            while (same < 16 && (p[at + same] ^ 0xa5) == masked[k][same])
                same++;
            if (same == 16)
                return true;
        }
    }
    return false;
}

static void *counted_malloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    if (fails_after >= 0 && fails_after-- == 0)
        return NULL;
    uint8_t *p = calloc(1, n);
    if (!counting)
        return p;
    for (size_t i = 0; i < BLOCKS_MAX; i++) {
        if (blocks[i].p == NULL) {
            blocks[i] = (struct block){p, n};
            blocks_n++;
            return p;
        }
    }
    abort();
}

static void counted_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    for (size_t i = 0; p != NULL && counting && i < BLOCKS_MAX; i++) {
        if (blocks[i].p == p) {
            leaks += has_key(p, blocks[i].n);
            blocks[i].p = NULL;
            blocks_n--;
        }
    }
    free(p);
}

static void *counted_realloc(void *p, size_t n, const char *file, int line)
{
    for (size_t i = 0; p != NULL && counting && i < BLOCKS_MAX; i++) {
        if (blocks[i].p == p) {
            void *larger = counted_malloc(n, file, line);
            if (larger != NULL) {
                memcpy(larger, p, MIN(n, blocks[i].n));
                counted_free(p, file, line);
            }
            return larger;
        }
    }
    return p == NULL ? counted_malloc(n, file, line) : realloc(p, n);
}

/* Before anything in the process has taken memory of libcrypto. */
__attribute__((constructor)) static void replace_malloc(void)
{
    CHECK(CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free) == 1);
}

static bool in_blocks(void)
{
    for (size_t i = 0; i < BLOCKS_MAX; i++) {
        if (blocks[i].p != NULL && has_key(blocks[i].p, blocks[i].n))
            return true;
    }
    return false;
}

/* In small mappings without a name: where the keys of contexts are kept. */
static bool in_mappings(void)
{
    static uint8_t copy[65536]; /* as the kernel reads it: ASan knows nothing of it */
    char line[512], access[5];
    unsigned long from, to, offset, inode;
    unsigned major, minor;
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    cr_assert(maps != NULL && memory >= 0);
    while (fgets(line, sizeof(line), maps) != NULL) {
        int end = 0;
        if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &from, &to, access, &offset, &major,
                &minor, &inode, &end) < 7)
            continue;
        if (strcmp(access, "rw-p") != 0 || line[end] != '\0' || to - from > sizeof(copy))
            continue;
        const ssize_t n = pread(memory, copy, to - from, (off_t)from);
        found = found || (n > 0 && has_key(copy, (size_t)n));
    }
    memset(copy, 0, sizeof(copy));
    fclose(maps);
    close(memory);
    return found;
}

static void mask_keys(const struct tls_record *record)
{
    for (size_t i = 0; i < 16; i++) {
        masked[0][i] = record->write.key[i] ^ 0xa5;
        masked[1][i] = record->read.key[i] ^ 0xa5;
        masked[2][i] = record->write.secret[i] ^ 0xa5;
        masked[3][i] = record->read.secret[i] ^ 0xa5;
    }
}

static void talk(struct tls_pair *pair)
{
    uint8_t wire[TLS_PEER_ROOM];
    const struct iovec iov = {(void *)"data", 4};
    tls_record_seal(&pair->record, crypto, &iov, 1, 0, wire, sizeof(wire));
    const size_t n = tls_peer_seal(&pair->peer, 23, "data", 4, 0, wire);
    tls_record_open(&pair->record, crypto, wire, n, wire, n);
}

/* Neither when a connection ends nor when other keys take the contexts is a key left anywhere. */
Test(tls_crypto, no_key_is_left)
{
    counting = true;
    crypto = tls_crypto_new();
    for (unsigned i = 0; i < 2 * TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i / 2);
        struct tls_pair pair;
        memset(masked, 0, sizeof(masked)); /* nothing is found */
        tls_pair_init(&pair, crypto, &config, 77);
        mask_keys(&pair.record);
        if (!config.v13)
            memcpy(masked[2], masked[0], 2 * sizeof(masked[0])); /* no secrets */
        pair.peer.crypto = tls_crypto_new();
        leaks = 0;
        talk(&pair);
        cr_assert(in_blocks(), "the test sees a key that is in use");
        cr_assert(in_mappings(), "the test sees a key that is in use");
        if (i % 2 == 0) { /* it ends; the peer's contexts go with the peer */
            tls_crypto_free(pair.peer.crypto);
            tls_record_wipe(&pair.record, crypto);
        } else { /* it is idle, and others are not */
            tls_crypto_free(pair.peer.crypto);
            for (unsigned other = 0; other < TLS_CONTEXTS; other++)
                use(other);
        }
        OPENSSL_cleanse(&pair, sizeof(pair));
        cr_assert(!in_blocks(), "configuration %u", i / 2);
        cr_assert(!in_mappings(), "configuration %u", i / 2);
        cr_assert_eq(leaks, 0, "configuration %u", i / 2);
        for (unsigned other = 0; other < TLS_CONTEXTS; other++)
            forget(other);
    }
    tls_crypto_free(crypto);
}

/* Each allocation of libcrypto fails in its turn: an error, never a record that is wrong. */
Test(tls_crypto, no_memory)
{
    counting = true;
    struct tls_crypto *theirs = tls_crypto_new();
    for (unsigned i = 0; i < TLS_PAIRS; i++) {
        const struct tls_pair_config config = tls_pair_nth(i);
        bool failed = true;
        for (long n = 0; failed && n < 1000; n++) {
            struct tls_pair pair;
            uint8_t wire[TLS_PEER_ROOM], type;
            struct span content;
            const struct iovec iov = {(void *)"data", 4};
            crypto = tls_crypto_new();
            tls_pair_init(&pair, crypto, &config, 1);
            pair.peer.crypto = theirs;
            size_t size = tls_peer_seal(
                &pair.peer, config.v13 ? 22 : 23, "\30\0\0\1\1", 5, 0, wire);
            fails_after = n;
            struct tls_opened opened = tls_record_open(
                &pair.record, crypto, wire, size, wire, size);
            failed = opened.event == TLS_EVENT_FATAL;
            if (failed)
                cr_assert_eq(opened.alert, TLS_ALERT_INTERNAL_ERROR);
            struct tls_sealed sealed = tls_record_seal(
                &pair.record, crypto, &iov, 1, 0, wire, sizeof(wire));
            if (sealed.error != 0) {
                failed = true;
                cr_assert(sealed.ended);
                cr_assert_eq(sealed.data, 0);
                fails_after = -1;
                cr_assert_eq(
                    tls_record_seal(&pair.record, crypto, &iov, 1, 0, wire, sizeof(wire)).bytes, 0);
            } else {
                fails_after = -1;
                size = tls_peer_open(&pair.peer, wire, sealed.bytes, &type, &content);
                cr_assert_gt(size, 0, "what was sealed is right");
            }
            pair.peer.crypto = crypto;
            tls_pair_deinit(&pair);
            tls_crypto_free(crypto);
        }
        cr_assert(!failed, "it ends");
    }
    crypto = theirs;
    tls_crypto_free(theirs);
}
