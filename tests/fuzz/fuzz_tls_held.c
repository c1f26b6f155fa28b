/*
 * Where records end before OpenSSL has them: what a client sends in its handshake is cut into the
 * same records however its bytes come, none is longer than what has come, and of one that can be no
 * record no more is waited for. The input: a byte that says how bytes come, then these.
 */

#include "frontd/shard/tls/tls_held.h"

#include "common/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many bytes come next; the kind as a generator has left it. */
static size_t next_piece(uint32_t *kind)
{
    *kind = *kind * 1664525 + 1013904223;
    return 1 + (*kind >> 24) % (*kind & 1 ? 4 : 256);
}

/* Where the record ends that begins at `at`; `at`: it does not; SIZE_MAX: it can be none. */
static size_t end_of(const uint8_t *data, size_t size, size_t at)
{
    if (size - at < TLS_HEADER_SIZE)
        return at;
    const size_t n = TLS_HEADER_SIZE + (size_t)(data[at + 3] << 8 | data[at + 4]);
    if (n > TLS_HELD_RECORD_MAX)
        return SIZE_MAX;
    return n > size - at ? at : at + n;
}

/*
 * Takes the records out that are whole when `come` bytes have come, from *at on. Returns false
 * where what follows can be none.
 */
static bool take(struct tls_held **held, const uint8_t *data, size_t come, size_t *at)
{
    for (;;) {
        const size_t end = end_of(data, come, *at);
        const size_t n = tls_held_record(*held);
        CHECK(tls_held_in(*held) == come - *at);
        if (end == SIZE_MAX) {
            CHECK(n == come - *at && !tls_held_is_part(*held, SIZE_MAX / 2));
            return false;
        }
        CHECK(n == end - *at);
        if (n == 0)
            return true;
        CHECK(!tls_held_is_part(*held, 0));
        buf_consume(&(*held)->in, n);
        tls_held_tidy(held);
        *at = end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_held *held = NULL;
    if (size == 0)
        return 0;
    uint32_t kind = *data++;
    size_t at = 0, come = 0;
    bool right = true;
    size--;
    while (right && come < size) {
        const size_t piece = next_piece(&kind);
        const size_t n = MIN(piece, size - come);
        const bool part = tls_held_in(held) > 0 && tls_held_is_part(held, n);
        CHECK(tls_held_add_in(&held, data + come, n, 0) == 0);
        come += n;
        CHECK(!part || tls_held_record(held) == 0);
        right = take(&held, data, come, &at);
    }
    tls_held_free(&held);
    CHECK(mem_in_use() == 0);
    return 0;
}
