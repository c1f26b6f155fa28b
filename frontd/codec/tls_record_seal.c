#include <errno.h>
#include <string.h>

#include "frontd/codec/tls_record_internal.h"

/*
 * Makes a record of the `n` bytes of content that are at record + tls_record_offset(). Its sequence
 * number is used up, whatever happens. Returns 0, or -ENOMEM or -EIO: nothing is ever sealed again.
 */
static int seal_one(struct tls_record *record, struct tls_crypto *crypto, enum tls_content type,
    uint8_t *out, size_t n, size_t *ret_size)
{
    struct tls_keys *keys = &record->write;
    const size_t offset = tls_record_offset(record);
    size_t inner = n;
    if (record->v13)
        out[offset + inner++] = (uint8_t)type;
    const size_t body = offset - TLS_HEADER_SIZE + inner + TLS_TAG_SIZE;
    out[0] = record->v13 ? TLS_CONTENT_DATA : (uint8_t)type;
    out[1] = out[2] = 3; /* TLS 1.2, and what 1.3 says to look like it */
    out[3] = (uint8_t)(body >> 8);
    out[4] = (uint8_t)body;

    struct tls_addition addition;
    CHECK(record->proven && keys->sequence < UINT32_MAX);
    tls_record_addition(record, keys, out, inner, &addition);
    keys->sequence++;
    if (tls_record_explicit(record))
        memcpy(out + TLS_HEADER_SIZE, addition.nonce + 4, TLS_EXPLICIT_SIZE);
    const struct tls_sealing sealing = {
        record->suite, keys->key, addition.nonce, addition.aad, addition.aad_n};
    int rc = tls_crypto_seal(crypto, &sealing, out + offset, inner);
    if (rc == 0) {
        *ret_size = TLS_HEADER_SIZE + body;
    } else {
        record->write_ended = true;
        tls_record_stop(record, 0);
    }
    return rc;
}

/* Adds a record with these bytes, unless sealing has failed before. */
static void add(struct tls_sealed *sealed, struct tls_record *record, struct tls_crypto *crypto,
    enum tls_content type, const uint8_t *content, size_t n, uint8_t *out)
{
    if (sealed->error != 0)
        return;
    size_t size;
    out += sealed->bytes;
    memcpy(out + tls_record_offset(record), content, n);
    sealed->error = seal_one(record, crypto, type, out, n, &size);
    if (sealed->error == 0)
        sealed->bytes += size;
}

static void add_alert(struct tls_sealed *sealed, struct tls_record *record,
    struct tls_crypto *crypto, enum tls_alert alert, uint8_t *out)
{
    const bool warning = alert == TLS_ALERT_CLOSE_NOTIFY || alert == TLS_ALERT_NO_RENEGOTIATION;
    const uint8_t content[] = {warning ? 1 : 2, (uint8_t)alert};
    add(sealed, record, crypto, TLS_CONTENT_ALERT, content, sizeof(content), out);
}

/* The KeyUpdate is the last record with the old key. */
static void add_key_update(struct tls_sealed *sealed, struct tls_record *record,
    struct tls_crypto *crypto, bool request, uint8_t *out)
{
    const uint8_t content[] = {TLS_HANDSHAKE_KEY_UPDATE, 0, 0, 1, request};
    add(sealed, record, crypto, TLS_CONTENT_HANDSHAKE, content, sizeof(content), out);
    if (sealed->error != 0)
        return;
    sealed->error = tls_keys_update(&record->write, crypto, record->suite);
    if (sealed->error != 0) {
        record->write_ended = true;
        tls_record_stop(record, 0);
    }
}

/* What keys that have been used enough make the layer owe. */
static void count_use(struct tls_record *record)
{
    if (record->write.sequence >= tls_record_limit(record))
        record->owes |= record->v13 ? TLS_OWES_KEY_UPDATE : TLS_OWES_CLOSE;
}

static void add_answers(
    struct tls_sealed *sealed, struct tls_record *record, struct tls_crypto *crypto, uint8_t *out)
{
    const unsigned owes = record->owes;
    const uint8_t alert = record->alert;
    record->owes = 0;
    record->alert = 0;
    if (owes & TLS_OWES_KEY_UPDATE)
        add_key_update(sealed, record, crypto, (owes & TLS_OWES_REQUEST) != 0, out);
    if (owes & TLS_OWES_NO_RENEGOTIATION)
        add_alert(sealed, record, crypto, TLS_ALERT_NO_RENEGOTIATION, out);
    if (owes & TLS_OWES_CLOSE)
        add_alert(sealed, record, crypto, TLS_ALERT_CLOSE_NOTIFY, out);
    if (alert != 0)
        add_alert(sealed, record, crypto, alert, out);
    if ((owes & TLS_OWES_CLOSE) || alert != 0)
        record->write_ended = true;
    else if (sealed->error == 0)
        count_use(record);
    sealed->answers = sealed->bytes;
}

/* Data that is taken piece by piece. */
struct source {
    const struct iovec *iov;
    size_t at;   /* in the first of them */
    size_t left; /* bytes in all */
};

static struct source source_make(const struct iovec *iov, int iovs, size_t skip)
{
    struct source source = {.iov = iov, .at = skip};
    for (int i = 0; i < iovs; i++)
        source.left += iov[i].iov_len;
    CHECK(skip <= source.left);
    source.left -= skip;
    return source;
}

static void source_take(struct source *source, uint8_t *out, size_t n)
{
    CHECK(n <= source->left);
    source->left -= n;
    while (n > 0) {
        if (source->at >= source->iov->iov_len) {
            source->at -= source->iov->iov_len;
            source->iov++;
            continue;
        }
        const size_t part = MIN(n, source->iov->iov_len - source->at);
        memcpy(out, (const uint8_t *)source->iov->iov_base + source->at, part);
        source->at += part;
        out += part;
        n -= part;
    }
}

static void add_data(struct tls_sealed *sealed, struct tls_record *record,
    struct tls_crypto *crypto, struct source *source, uint8_t *out, size_t room)
{
    /* Nothing may be between data and what is owed before it. */
    while (source->left > 0 && record->owes == 0 && !record->failed) {
        const size_t n = MIN(source->left, record->fragment_max);
        size_t size = n + tls_record_overhead(record);
        if (room - sealed->bytes < size)
            return;
        uint8_t *at = out + sealed->bytes;
        source_take(source, at + tls_record_offset(record), n);
        sealed->error = seal_one(record, crypto, TLS_CONTENT_DATA, at, n, &size);
        if (sealed->error != 0)
            return;
        sealed->bytes += size;
        sealed->data += n;
        count_use(record);
    }
}

struct tls_sealed tls_record_seal(struct tls_record *record, struct tls_crypto *crypto,
    const struct iovec *iov, int iovs, size_t skip, uint8_t *out, size_t room)
{
    struct tls_sealed sealed = {0};
    struct source source = source_make(iov, iovs, skip);
    if (tls_record_owes(record) && room >= TLS_ANSWERS_MAX)
        add_answers(&sealed, record, crypto, out);
    if (sealed.error == 0 && !tls_record_owes(record) && !tls_record_closing(record))
        add_data(&sealed, record, crypto, &source, out, room);
    sealed.ended = tls_record_closing(record);
    return sealed;
}
