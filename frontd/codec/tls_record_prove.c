#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "frontd/codec/tls_record_internal.h"

/* Handshake messages over all records. */
struct messages {
    uint32_t left; /* bytes of the present one that are still to come */
    uint8_t head[TLS_HANDSHAKE_HEAD];
    uint8_t head_n;
};

/* Whether the bytes are of messages of this type only. */
static bool all_of(struct messages *messages, uint8_t type, const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t used = 1;
        if (messages->left > 0) {
            used = MIN(n, messages->left);
            messages->left -= (uint32_t)used;
        } else {
            uint8_t *head = messages->head;
            head[messages->head_n++] = *p;
            if (messages->head_n == TLS_HANDSHAKE_HEAD) {
                messages->left = (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
                messages->head_n = 0;
            }
            if (head[0] != type)
                return false;
        }
        p += used;
        n -= used;
    }
    return true;
}

/* The next record; false at the end, and where there is no whole one. */
static bool next(struct span *sent, struct span *ret_record)
{
    if (sent->n < TLS_HEADER_SIZE)
        return false;
    const uint8_t *header = (const uint8_t *)sent->p;
    const size_t size = TLS_HEADER_SIZE + ((size_t)header[3] << 8 | header[4]);
    if (sent->n < size)
        return false;
    *ret_record = (struct span){sent->p, size};
    *sent = (struct span){sent->p + size, sent->n - size};
    return true;
}

/* Whether the record opens with `keys`, and holds messages of this type only. */
static bool opens(const struct tls_record *record, struct tls_keys *keys, struct tls_crypto *crypto,
    struct span one, struct messages *messages, uint8_t type)
{
    uint8_t content[TLS_RECORD_MAX];
    uint8_t content_type;
    uint8_t nonce[TLS_NONCE_SIZE];
    size_t n;
    const uint8_t *in = (const uint8_t *)one.p;
    const size_t overhead = tls_record_overhead(record);
    if (in[0] != (record->v13 ? TLS_CONTENT_DATA : TLS_CONTENT_HANDSHAKE) || one.n < overhead ||
        one.n > overhead + TLS_FRAGMENT_MAX)
        return false;
    if (tls_record_explicit(record)) {
        tls_keys_set_explicit(keys, in + TLS_HEADER_SIZE);
        tls_keys_nonce_added(keys, nonce);
    } else {
        tls_keys_nonce_xored(keys, nonce);
    }
    if (tls_record_open_one(record, keys, crypto, in, one.n, content, &content_type, &n) != 0)
        return false;
    tls_crypto_sealed_before(crypto, keys->key, nonce);
    return content_type == TLS_CONTENT_HANDSHAKE && n > 0 && all_of(messages, type, content, n);
}

/* TLS 1.3, a server: any number of NewSessionTickets. */
static bool prove13(const struct tls_record *record, struct tls_keys *keys,
    struct tls_crypto *crypto, struct span sent)
{
    struct messages messages = {0};
    struct span one;
    while (next(&sent, &one)) {
        if (record->client || !opens(record, keys, crypto, one, &messages, TLS_HANDSHAKE_TICKET))
            return false;
    }
    return sent.n == 0 && messages.left == 0 && messages.head_n == 0;
}

/* TLS 1.2: Finished, the only record after ChangeCipherSpec. */
static bool prove12(const struct tls_record *record, struct tls_keys *keys,
    struct tls_crypto *crypto, struct span sent)
{
    struct messages messages = {0};
    struct span one;
    do {
        if (!next(&sent, &one))
            return false;
    } while (one.p[0] != TLS_CONTENT_CHANGE_CIPHER_SPEC);
    return next(&sent, &one) && sent.n == 0 &&
           opens(record, keys, crypto, one, &messages, TLS_HANDSHAKE_FINISHED) &&
           messages.left == 0 && messages.head_n == 0;
}

int tls_record_prove(struct tls_record *record, struct tls_crypto *crypto, struct span sent)
{
    CHECK(!record->proven);
    struct tls_keys keys = record->write;
    const bool right = record->v13 ? prove13(record, &keys, crypto, sent)
                                   : prove12(record, &keys, crypto, sent);
    if (right) {
        record->write = keys;
        record->proven = true;
    } else {
        record->write_ended = true;
        tls_record_stop(record, 0);
    }
    OPENSSL_cleanse(&keys, sizeof(keys));
    tls_crypto_forget(crypto, record->write.key); /* what was opened with is not used again */
    return right ? 0 : -EBADMSG;
}
