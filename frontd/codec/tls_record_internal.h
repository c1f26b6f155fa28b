#pragma once

/*
 * What the files of tls_record share: tls_record.c (its beginning and end), tls_record_open.c,
 * tls_record_seal.c, tls_record_prove.c, tls_record_state.c.
 */

#include "frontd/codec/tls_record.h"

/* RFC 8446 section 5.1 */
enum tls_content {
    TLS_CONTENT_CHANGE_CIPHER_SPEC = 20,
    TLS_CONTENT_ALERT = 21,
    TLS_CONTENT_HANDSHAKE = 22,
    TLS_CONTENT_DATA = 23,
};

/* RFC 8446 section 4, RFC 5246 section 7.4 */
enum tls_handshake {
    TLS_HANDSHAKE_HELLO_REQUEST = 0,
    TLS_HANDSHAKE_CLIENT_HELLO = 1,
    TLS_HANDSHAKE_TICKET = 4,
    TLS_HANDSHAKE_FINISHED = 20,
    TLS_HANDSHAKE_KEY_UPDATE = 24,
};

/* record->handshake_kind: the message that is being read */
enum tls_kind {
    TLS_KIND_KEY_UPDATE,    /* 1.3 */
    TLS_KIND_TICKET,        /* 1.3, from a server */
    TLS_KIND_CLIENT_HELLO,  /* 1.2, from a client */
    TLS_KIND_HELLO_REQUEST, /* 1.2, from a server */
};

/* record->owes */
enum {
    TLS_OWES_KEY_UPDATE = 1 << 0,       /* 1.3 */
    TLS_OWES_REQUEST = 1 << 1,          /* that KeyUpdate asks the peer for one, too */
    TLS_OWES_NO_RENEGOTIATION = 1 << 2, /* 1.2 */
    TLS_OWES_CLOSE = 1 << 3,
};

enum {
    TLS_HANDSHAKE_HEAD = 4, /* bytes: type and length */
    TLS_EXPLICIT_SIZE = 8,  /* bytes of a nonce that a record carries: 1.2 with GCM */
};

/* Whether records carry a part of their nonce. */
static inline bool tls_record_explicit(const struct tls_record *record)
{
    return !record->v13 && record->suite != TLS_CHACHA20;
}

/* Bytes before the encrypted part of a record. */
static inline size_t tls_record_offset(const struct tls_record *record)
{
    return TLS_HEADER_SIZE + (tls_record_explicit(record) ? (size_t)TLS_EXPLICIT_SIZE : 0);
}

/* Bytes of a record beyond its data, without padding. */
static inline size_t tls_record_overhead(const struct tls_record *record)
{
    return tls_record_offset(record) + (record->v13 ? 1 : 0) + TLS_TAG_SIZE;
}

/* How many records may be sealed with one key, besides alerts. */
static inline uint32_t tls_record_limit(const struct tls_record *record)
{
    if (record->v13)
        return TLS_RECORDS_SOFT;
    return record->suite == TLS_CHACHA20 ? TLS_RECORDS_HARD : TLS_RECORDS_GCM;
}

/* No data is sealed any more. */
static inline bool tls_record_closing(const struct tls_record *record)
{
    return record->failed || record->write_ended || (record->owes & TLS_OWES_CLOSE) != 0;
}

/* The connection has failed: nothing is read or sealed any more, but for `alert`, unless it is 0.
 */
void tls_record_stop(struct tls_record *record, uint8_t alert);

/* Additional data, and the nonce of a record. */
struct tls_addition {
    uint8_t nonce[TLS_NONCE_SIZE];
    uint8_t aad[13];
    size_t aad_n;
};

/*
 * The addition for the record of the present sequence number of `keys`. header: the record's
 * first TLS_HEADER_SIZE bytes. n: bytes of its encrypted part, without the tag.
 */
void tls_record_addition(const struct tls_record *record, const struct tls_keys *keys,
    const uint8_t *header, size_t n, struct tls_addition *ret_addition);

/*
 * Opens one whole record with `keys` and counts it. size: its bytes. out: room for
 * size - TLS_HEADER_SIZE - TLS_TAG_SIZE bytes, or `in` plus tls_record_offset(). *ret_type: its
 * type, *ret_n: the bytes of its content, at `out`. Returns 0, or the alert that it is refused
 * with.
 */
unsigned tls_record_open_one(const struct tls_record *record, struct tls_keys *keys,
    struct tls_crypto *crypto, const uint8_t *in, size_t size, uint8_t *out, uint8_t *ret_type,
    size_t *ret_n);
