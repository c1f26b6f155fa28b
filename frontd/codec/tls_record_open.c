#include <errno.h>
#include <string.h>

#include "frontd/codec/tls_record_internal.h"

/* Bytes of the encrypted part of a record, with its tag. */
static size_t body_size(const uint8_t *header)
{
    return (size_t)header[3] << 8 | header[4];
}

/* Returns 0, or the alert that a record with this header is refused with. */
static unsigned judge_header(const struct tls_record *record, const uint8_t *header)
{
    const uint8_t type = header[0];
    if (record->v13) {
        /* The version is ignored (RFC 8446 section 5.1). */
        if (type != TLS_CONTENT_DATA)
            return TLS_ALERT_UNEXPECTED_MESSAGE;
    } else {
        if (type < TLS_CONTENT_ALERT || type > TLS_CONTENT_DATA)
            return TLS_ALERT_UNEXPECTED_MESSAGE;
        if (header[1] != 3 || header[2] != 3)
            return TLS_ALERT_PROTOCOL_VERSION;
    }
    const size_t least = tls_record_overhead(record) - TLS_HEADER_SIZE;
    if (body_size(header) < least)
        return TLS_ALERT_BAD_RECORD_MAC;
    if (body_size(header) > least + TLS_FRAGMENT_MAX)
        return TLS_ALERT_RECORD_OVERFLOW;
    return 0;
}

/*
 * Takes padding and type off the content of a record of TLS 1.3. How long that takes tells how
 * much padding there was, as does what is done with the data (RFC 8446 appendix E.3).
 */
static unsigned take_off_type(const uint8_t *content, size_t *n, uint8_t *ret_type)
{
    size_t left = *n;
    while (left > 0 && content[left - 1] == 0)
        left--;
    if (left == 0)
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    *ret_type = content[left - 1];
    *n = left - 1;
    return 0;
}

unsigned tls_record_open_one(const struct tls_record *record, struct tls_keys *keys,
    struct tls_crypto *crypto, const uint8_t *in, size_t size, uint8_t *out, uint8_t *ret_type,
    size_t *ret_n)
{
    const size_t offset = tls_record_offset(record);
    const size_t n = size - offset - TLS_TAG_SIZE;
    if (keys->sequence >= TLS_RECORDS_HARD)
        return TLS_ALERT_INTERNAL_ERROR;
    struct tls_addition addition;
    tls_record_addition(record, keys, in, n, &addition);
    if (tls_record_explicit(record)) /* the peer chooses it */
        memcpy(addition.nonce + 4, in + TLS_HEADER_SIZE, TLS_EXPLICIT_SIZE);
    const struct tls_sealing sealing = {
        record->suite, keys->key, addition.nonce, addition.aad, addition.aad_n};
    int rc = tls_crypto_open(crypto, &sealing, in + offset, n, out);
    if (rc < 0)
        return rc == -EBADMSG ? TLS_ALERT_BAD_RECORD_MAC : TLS_ALERT_INTERNAL_ERROR;
    keys->sequence++;
    *ret_type = in[0];
    *ret_n = n;
    return record->v13 ? take_off_type(out, ret_n, ret_type) : 0;
}

/* The first byte of a handshake message: which messages may come depends on version and role. */
static unsigned begin_message(struct tls_record *record, uint8_t type)
{
    unsigned kind;
    if (record->v13 && type == TLS_HANDSHAKE_KEY_UPDATE)
        kind = TLS_KIND_KEY_UPDATE;
    else if (record->v13 && record->client && type == TLS_HANDSHAKE_TICKET)
        kind = TLS_KIND_TICKET;
    else if (!record->v13 && !record->client && type == TLS_HANDSHAKE_CLIENT_HELLO)
        kind = TLS_KIND_CLIENT_HELLO;
    else if (!record->v13 && record->client && type == TLS_HANDSHAKE_HELLO_REQUEST)
        kind = TLS_KIND_HELLO_REQUEST;
    else
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    record->handshake_kind = kind & 3;
    return 0;
}

/* The length in a handshake message's head is known. */
static unsigned judge_length(const struct tls_record *record)
{
    if (record->handshake_kind == TLS_KIND_KEY_UPDATE)
        return record->handshake_left == 1 ? 0 : TLS_ALERT_DECODE_ERROR;
    if (record->handshake_kind == TLS_KIND_HELLO_REQUEST)
        return record->handshake_left == 0 ? 0 : TLS_ALERT_DECODE_ERROR;
    return 0;
}

/* One byte of a handshake message's head: its type, then its length, 3 bytes. */
static unsigned take_head(struct tls_record *record, uint8_t byte)
{
    unsigned alert = 0;
    switch (record->handshake_at) {
    case 0: alert = begin_message(record, byte); break;
    case 1: alert = byte == 0 ? 0 : TLS_ALERT_ILLEGAL_PARAMETER; break;
    case 2: record->handshake_left = (uint16_t)(byte << 8); break;
    default: record->handshake_left |= byte; alert = judge_length(record);
    }
    record->handshake_at++;
    return alert;
}

/*
 * request: the content of the KeyUpdate; behind: bytes that follow it in its record, which would be
 * sealed with a key that has ended (RFC 8446 section 5.1).
 */
static unsigned take_key_update(
    struct tls_record *record, struct tls_crypto *crypto, uint8_t request, size_t behind)
{
    if (request > 1)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    if (behind > 0)
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    if (tls_keys_update(&record->read, crypto, record->suite) < 0)
        return TLS_ALERT_INTERNAL_ERROR;
    if (request == 1 && !record->write_ended)
        record->owes |= TLS_OWES_KEY_UPDATE;
    return 0;
}

static void end_message(struct tls_record *record)
{
    if (!record->v13 && !record->write_ended)
        record->owes |= TLS_OWES_NO_RENEGOTIATION;
    record->handshake_at = 0;
    record->handshake_kind = 0;
}

static unsigned take_handshake(
    struct tls_record *record, struct tls_crypto *crypto, const uint8_t *p, size_t n)
{
    if (n == 0)
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    while (n > 0) {
        unsigned alert = 0;
        size_t used = 1;
        if (record->handshake_at < TLS_HANDSHAKE_HEAD) {
            alert = take_head(record, *p);
        } else {
            used = MIN(n, record->handshake_left);
            record->handshake_left -= (uint16_t)used;
            if (record->handshake_kind == TLS_KIND_KEY_UPDATE)
                alert = take_key_update(record, crypto, *p, n - 1);
        }
        if (alert != 0)
            return alert;
        if (record->handshake_at == TLS_HANDSHAKE_HEAD && record->handshake_left == 0)
            end_message(record);
        p += used;
        n -= used;
    }
    return 0;
}

/* RFC 8446 section 6, RFC 5246 section 7.2. TLS 1.3 ignores the level. */
static unsigned take_alert(
    struct tls_record *record, const uint8_t *p, size_t n, struct tls_opened *opened)
{
    if (n != 2)
        return n == 0 ? TLS_ALERT_UNEXPECTED_MESSAGE : TLS_ALERT_DECODE_ERROR;
    const bool warning = p[0] == 1;
    if (!record->v13 && !warning && p[0] != 2)
        return TLS_ALERT_ILLEGAL_PARAMETER;
    if (p[1] == TLS_ALERT_CLOSE_NOTIFY && (record->v13 || warning)) {
        record->read_ended = true;
    } else if (record->v13 ? p[1] != TLS_ALERT_USER_CANCELED : !warning) {
        tls_record_stop(record, 0);
        opened->received = true;
        opened->alert = p[1];
    }
    return 0;
}

/* What a record was, at out + opened->data. Returns 0, or the alert that it is refused with. */
static unsigned take_content(struct tls_record *record, struct tls_crypto *crypto, uint8_t type,
    const uint8_t *content, size_t n, struct tls_opened *opened)
{
    if (n > TLS_FRAGMENT_MAX || (record->held && n > record->fragment_max))
        return TLS_ALERT_RECORD_OVERFLOW;
    if (record->handshake_at > 0 && type != TLS_CONTENT_HANDSHAKE)
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    unsigned alert = 0;
    switch (type) {
    case TLS_CONTENT_DATA: break;
    case TLS_CONTENT_HANDSHAKE: alert = take_handshake(record, crypto, content, n); break;
    case TLS_CONTENT_ALERT: alert = take_alert(record, content, n, opened); break;
    default: alert = TLS_ALERT_UNEXPECTED_MESSAGE;
    }
    if (alert != 0 || record->failed || record->read_ended)
        return alert;
    if (type == TLS_CONTENT_DATA && n > 0) {
        opened->data += n;
        record->barren = 0;
    } else if (record->barren++ == TLS_BARREN_MAX) {
        return TLS_ALERT_UNEXPECTED_MESSAGE;
    }
    return 0;
}

/* A peer that does not change its keys by itself is asked to, at every multiple of the number. */
static void count_use(struct tls_record *record)
{
    const uint32_t sequence = record->read.sequence;
    if (record->v13 && sequence > 0 && sequence % TLS_RECORDS_SOFT == 0 &&
        !tls_record_closing(record))
        record->owes |= TLS_OWES_KEY_UPDATE | TLS_OWES_REQUEST;
}

/*
 * Opens the record of `size` bytes at `in`, and lays its data at out + opened->data. in_place: it
 * is decrypted where it stands, and moved then.
 */
static unsigned open_next(struct tls_record *record, struct tls_crypto *crypto, uint8_t *in,
    size_t size, uint8_t *out, bool in_place, struct tls_opened *opened)
{
    uint8_t *content = in_place ? in + tls_record_offset(record) : out + opened->data;
    uint8_t *place = out + opened->data;
    const size_t before = opened->data;
    uint8_t type;
    size_t n;
    unsigned alert = tls_record_open_one(
        record, &record->read, crypto, in, size, content, &type, &n);
    if (alert != 0)
        return alert;
    alert = take_content(record, crypto, type, content, n, opened);
    if (opened->data > before && content != place)
        memmove(place, content, n);
    count_use(record);
    return alert;
}

/*
 * Looks at what begins at `in`, `n` bytes. Returns 0 with *ret_size, the bytes of a whole record,
 * or 0 with the event that ends this call; or the alert that it is refused with.
 */
static unsigned look(const struct tls_record *record, const uint8_t *in, size_t n, size_t room,
    struct tls_opened *opened, size_t *ret_size)
{
    *ret_size = 0;
    if (n < TLS_HEADER_SIZE) {
        opened->missing = TLS_HEADER_SIZE - n;
        return 0;
    }
    const unsigned alert = judge_header(record, in);
    if (alert != 0)
        return alert;
    const size_t size = TLS_HEADER_SIZE + body_size(in);
    const size_t wants = size - tls_record_offset(record) - TLS_TAG_SIZE;
    if (n < size) {
        opened->missing = size - n;
    } else if (room < wants) {
        opened->event = TLS_EVENT_ROOM;
        opened->missing = wants;
    } else {
        *ret_size = size;
    }
    return 0;
}

struct tls_opened tls_record_open(struct tls_record *record, struct tls_crypto *crypto, uint8_t *in,
    size_t n, uint8_t *out, size_t room)
{
    struct tls_opened opened = {.event = TLS_EVENT_MORE, .alert = record->alert};
    const bool in_place = in == out;
    while (!record->failed && !record->read_ended) {
        size_t size;
        unsigned alert = look(
            record, in + opened.used, n - opened.used, room - opened.data, &opened, &size);
        if (alert == 0 && size == 0)
            return opened;
        if (alert == 0)
            alert = open_next(record, crypto, in + opened.used, size, out, in_place, &opened);
        opened.used += size;
        if (alert != 0) {
            tls_record_fail(record, alert);
            opened.alert = (uint8_t)alert;
        }
    }
    opened.event = record->failed ? TLS_EVENT_FATAL : TLS_EVENT_END;
    opened.used = n; /* nothing behind it is looked at */
    return opened;
}
