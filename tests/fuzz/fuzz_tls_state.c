/*
 * The input: one byte, what another process says is the state of a TLS connection, and, as many
 * bytes as the first one tells, what its peer sends on. The state is refused; or it is what would
 * be saved again, reads, and seals.
 */

#include <string.h>

#include "frontd/codec/tls_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_crypto *crypto;

static void live(struct tls_record *record, const uint8_t *said, size_t n)
{
    static uint8_t out[1024];
    uint8_t *in = malloc(n + (n == 0));
    CHECK(in != NULL);
    memcpy(in, said, n);
    const struct tls_opened opened = tls_record_open(record, crypto, in, n, in, n);
    CHECK(opened.used <= n && opened.data <= opened.used && opened.event != TLS_EVENT_ROOM);
    free(in);
    const struct iovec iov = {(void *)"data", 4};
    const struct tls_sealed sealed = tls_record_seal(record, crypto, &iov, 1, 0, out, sizeof(out));
    CHECK(sealed.error == 0 && sealed.bytes <= sizeof(out));
    CHECK(sealed.data == 0 ? sealed.ended : sealed.data == 4);
}

static void save_again(const struct tls_record *record, struct span state)
{
    struct buf again = {0};
    struct pack pack = {.out = &again};
    tls_record_save(record, &pack);
    CHECK(buf_len(&again) == state.n && memcmp(buf_data(&again), state.p, state.n) == 0);
    buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] > size - 1)
        return 0;
    if (crypto == NULL)
        crypto = tls_crypto_new();
    CHECK(crypto != NULL);
    const size_t said = data[0];
    const struct span state = {(const char *)data + 1, size - 1 - said};
    struct unpack unpack = {.left = state};
    struct tls_record record;
    if (tls_record_restore(&record, &unpack, TLS_RECORD_SAVED) < 0)
        return 0;
    save_again(&record, (struct span){state.p, state.n - unpack.left.n});
    live(&record, data + size - said, said);
    tls_record_wipe(&record, crypto);
    CHECK(tls_crypto_keyed(crypto) == 0);
    return 0;
}
