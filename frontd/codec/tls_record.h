#pragma once

/*
 * The record layer of TLS 1.3 (RFC 8446 section 5) and 1.2 (RFC 5246 section 6, RFC 5288, RFC 7905)
 * after a handshake that OpenSSL has made, for servers and for clients: bytes in, data and events
 * out. Pure: no socket, no clock, no memory of its own.
 *
 * The way of a connection:
 * - tls_record_init13() or tls_record_init12() with what the handshake has left
 * - tls_record_prove() with the records that OpenSSL has sealed with the same keys
 * - tls_record_open() for what comes, tls_record_seal() for what goes
 * - whenever tls_record_owes(): tls_record_seal(), with or without data. What the layer has to say
 *   by itself (an answer to a KeyUpdate, alerts, close_notify) is a bit in the state until it is
 *   sealed, so there is at most one of each however much the peer asks, and it moves with the
 *   connection
 * - tls_record_close() when no more data is sent; tls_record_wipe() at the end
 *
 * What ends it:
 * - the peer's close_notify: TLS_EVENT_END. Sending may go on. (A peer that closes the socket
 *   without it has cut the connection short: that is seen by the caller, who asks
 *   tls_record_ended().)
 * - a violation by the peer: TLS_EVENT_FATAL with the alert, which is owed
 * - a fatal alert of the peer: TLS_EVENT_FATAL with the alert and `received`; nothing is owed
 * - memory that is not there: TLS_EVENT_FATAL with internal_error, or tls_sealed.error
 * - keys that have been used enough: see tls_record_worn()
 *
 * A write key has one owner. Every record that tls_record_seal() has returned has used up its
 * sequence number: it is sent as it is, or the connection ends; data is never sealed again. A copy
 * of the state (tls_record_save()) may seal only once the original has been wiped.
 */

#include <sys/uio.h>

#include "common/pack.h"
#include "frontd/codec/tls_alert.h"
#include "frontd/codec/tls_keys.h"

enum {
    TLS_HEADER_SIZE = 5,
    TLS_FRAGMENT_MAX = 16384, /* bytes of data in a record (2^14) */
    TLS_FRAGMENT_MIN = 64,    /* the least record_size_limit (RFC 8449 section 4) */
    TLS_OVERHEAD_MAX = 29,    /* bytes of a record beyond its data, in any version and suite */
    TLS_RECORD_MAX = TLS_FRAGMENT_MAX + TLS_OVERHEAD_MAX,
    /*
     * Bytes of all that the layer can owe at a time: an answer (KeyUpdate or no_renegotiation), 5
     * bytes at most, and what closes.
     */
    TLS_ANSWERS_MAX = 2 * (TLS_OVERHEAD_MAX + 5),
    /*
     * Records in a row that carry no data (empty ones, KeyUpdates, warnings, tickets, refused
     * renegotiations) that a peer may send: one more is answered with unexpected_message. The
     * number is OpenSSL's.
     */
    TLS_BARREN_MAX = 32,
    /*
     * Records under one key. GCM keeps its margin up to 2^24.5 full records (RFC 8446 section
     * 5.5): in TLS 1.3 the layer sends a KeyUpdate at 2^24, and asks a peer that has sent as many
     * for one; TLS 1.2 cannot change keys: see tls_record_worn(). Beyond the hard limits nothing is
     * sealed but close_notify and alerts.
     */
    TLS_RECORDS_SOFT = 1 << 24,
    TLS_RECORDS_GCM = 23726566, /* 2^24.5 */
};
#define TLS_RECORDS_WORN UINT32_C(0x80000000) /* TLS 1.2 with CHACHA20, whose margin has no end */
#define TLS_RECORDS_HARD UINT32_C(0xffffff00) /* of 32 bits; the rest is for what closes */

/*
 * The state of a connection between two calls; opaque to others. Fields that are small share
 * bytes, so that the whole is 200.
 */
struct tls_record {
    struct tls_keys read;
    struct tls_keys write;
    uint16_t fragment_max;     /* bytes of data in a record that is sent */
    uint16_t handshake_left;   /* bytes of a handshake message that are still to be passed over */
    unsigned suite : 2;        /* enum tls_suite */
    bool v13 : 1;              /* TLS 1.3; else 1.2 */
    bool client : 1;           /* the role of this side */
    bool held : 1;             /* the peer is held to fragment_max, too (max_fragment_length) */
    bool proven : 1;           /* tls_record_prove() has succeeded */
    bool read_ended : 1;       /* the peer has sent close_notify */
    bool write_ended : 1;      /* close_notify or a fatal alert has been sealed */
    bool failed : 1;           /* by a violation, a fatal alert, or libcrypto */
    unsigned handshake_at : 3; /* bytes of a handshake message's head that have been read: 0 to 4 */
    unsigned owes : 4;         /* what is to be sealed, bits */
    unsigned barren : 6;       /* records without data in a row */
    unsigned handshake_kind : 2; /* which message it is */
    uint8_t alert;               /* a fatal one that is owed; 0: none */
};
_Static_assert(sizeof(struct tls_record) == 200, "a connection's state is at most 200 bytes");

struct tls_record_config {
    enum tls_suite suite;
    bool client; /* this side is the client */
    /*
     * Bytes of data in a record that is sent: TLS_FRAGMENT_MAX, or what the peer has asked for with
     * max_fragment_length (RFC 6066), or record_size_limit (RFC 8449; in TLS 1.3 less its one byte
     * for the type). From TLS_FRAGMENT_MIN.
     */
    uint16_t fragment_max;
    bool held; /* records with more that come are refused, too: so says max_fragment_length */
};

/*
 * TLS 1.3. client_secret, server_secret: the application traffic secrets (CLIENT_TRAFFIC_SECRET_0
 * and SERVER_TRAFFIC_SECRET_0 of the keylog callback), tls_suite_secret_size() bytes. Returns 0 or
 * -ENOMEM, then *ret_record has been wiped.
 */
int tls_record_init13(struct tls_record *ret_record, struct tls_crypto *crypto,
    const struct tls_record_config *config, const uint8_t *client_secret,
    const uint8_t *server_secret);

/* TLS 1.2: both sides have sent Finished. Returns 0 or -ENOMEM, as above. */
int tls_record_init12(struct tls_record *ret_record, struct tls_crypto *crypto,
    const struct tls_record_config *config, const struct tls_master *master);

/*
 * Proves the keys and the number of the next record by opening the records that OpenSSL has sealed
 * with the same write keys; nothing is sealed before. They are copied, not changed.
 *
 * sent: whole records, all of them, in order
 * - TLS 1.3, server: what OpenSSL has written after it had the client's Finished (all of its last
 *   step): NewSessionTickets, none to any number
 * - TLS 1.3, client: nothing, since its Finished has other keys
 * - TLS 1.2: what OpenSSL has written from ChangeCipherSpec on, which comes first, or from before
 *   it: Finished, which also says where the explicit nonce begins
 *
 * Returns 0, or -EBADMSG where a record is not one of these or does not open: OpenSSL has used
 * the key in a way that is not known here. Then nothing is ever sealed, not even an alert. (So it
 * is without memory.)
 */
int tls_record_prove(struct tls_record *record, struct tls_crypto *crypto, struct span sent);

enum tls_event {
    TLS_EVENT_MORE,  /* all whole records have been opened; `missing` */
    TLS_EVENT_ROOM,  /* the next record is whole, but wants more room than is left; `missing` */
    TLS_EVENT_END,   /* the peer has sent close_notify: no more data comes. What follows is used */
    TLS_EVENT_FATAL, /* the connection is to be closed, once nothing is owed */
};

struct tls_opened {
    enum tls_event event;
    size_t used;    /* bytes at `in` that need not be kept: whole records */
    size_t data;    /* bytes of data at `out`: before the event, with any event */
    size_t missing; /* MORE: how many bytes more make the record at in + used whole, or its header
                       where that is not; at least 1. ROOM: the room that the record wants */
    uint8_t alert;  /* FATAL */
    bool received;  /* FATAL: the alert is the peer's */
};

/*
 * Opens the whole records among the `n` bytes at `in`, in order. Their data is laid at `out`, one
 * behind the other.
 *
 * out: `in` itself, with room = n: records are opened in place, their data is moved to the front.
 * What has not been used stays where it is, at in + used. Or other memory: there is no copy, but a
 * record wants as much room as it has bytes without header and tag (its padding and type are
 * opened there, too), TLS_FRAGMENT_MAX + 1 at most. Bytes behind out + data may have changed.
 *
 * A header that breaks the rules is refused as soon as it is there. Violations, by alert:
 * - unexpected_message: types that have no place after the handshake (ChangeCipherSpec; in TLS 1.3
 *   anything that is not encrypted), other handshake messages than KeyUpdate (1.3),
 *   NewSessionTicket (1.3, from a server), HelloRequest and ClientHello (1.2, which are answered
 *   with the warning no_renegotiation), a KeyUpdate with something behind it in its record, another
 *   type within a handshake message, an empty handshake message or alert, padding without a type,
 *   more than TLS_BARREN_MAX records without data
 * - bad_record_mac; also for records shorter than their tag
 * - record_overflow: more than TLS_FRAGMENT_MAX bytes of data, or more than fragment_max of a peer
 *   that is held to it; in TLS 1.3 with padding and type more than TLS_FRAGMENT_MAX + 1
 * - decode_error: alerts that are not 2 bytes, a KeyUpdate that is not 1
 * - illegal_parameter: a KeyUpdate that is neither 0 nor 1, an alert that is neither warning nor
 *   fatal (1.2), a handshake message to pass over of 64 KiB or more
 * - protocol_version: in TLS 1.2, records of another version
 * - internal_error: no memory; TLS_RECORDS_HARD records under one key
 */
struct tls_opened tls_record_open(struct tls_record *record, struct tls_crypto *crypto, uint8_t *in,
    size_t n, uint8_t *out, size_t room);

struct tls_sealed {
    size_t bytes;   /* at `out` */
    size_t answers; /* how many of them, at the front, are what the layer owed, and no data */
    size_t data;    /* bytes of data that have been taken; less than offered where `room` ended */
    bool ended;     /* no data is taken any more */
    int error;      /* 0, or -ENOMEM, -EIO: the connection is to be closed; `bytes` may be sent */
};

/*
 * Seals what is owed, then data, in records of fragment_max bytes (the last one may be shorter).
 * iov, iovs: the data; its first `skip` bytes are passed over. None (0): only what is owed.
 * out: does not overlap with the data. room: what is owed takes up to TLS_ANSWERS_MAX bytes and is
 * sealed only where that is free; a record is sealed only as a whole, with as much data as
 * fragment_max and the data allow.
 */
struct tls_sealed tls_record_seal(struct tls_record *record, struct tls_crypto *crypto,
    const struct iovec *iov, int iovs, size_t skip, uint8_t *out, size_t room);

/* Whether tls_record_seal() has something to seal without data. */
bool tls_record_owes(const struct tls_record *record);

/* Data has ended: close_notify is owed, unless it has been sent. Reading goes on. */
void tls_record_close(struct tls_record *record);

/* This side ends the connection: the fatal alert is owed, nothing else is sent or read. */
void tls_record_fail(struct tls_record *record, enum tls_alert alert);

/* Whether the peer has sent close_notify: else the end of input is a truncation. */
bool tls_record_ended(const struct tls_record *record);

/*
 * TLS 1.2: whether one of the keys has been used for TLS_RECORDS_SOFT records (TLS_RECORDS_WORN
 * with CHACHA20). It cannot be changed, so the connection is to end, as at a drain: the requests in
 * progress are answered, then it is closed. There is half as much again until TLS_RECORDS_GCM
 * (TLS_RECORDS_HARD): there close_notify is owed, and no data is taken. False for TLS 1.3.
 */
bool tls_record_worn(const struct tls_record *record);

/*
 * Saves the state for another process, keys and what is owed included, and restores it. The saved
 * state is not trusted: each field of *ret_record is in its range. TLS_RECORD_SAVED is the version
 * of the section that it is in. The bytes in `pack` are secrets: they are wiped by the caller.
 *
 * Nothing may be between two calls but what the caller has: records that were not used, and bytes
 * that were sealed and not written. Returns 0 with *ret_record, or -EBADMSG.
 */
enum { TLS_RECORD_SAVED = 1, TLS_RECORD_SAVED_MAX = 2 * (48 + 32 + 12 + 4) + 16 /* bytes */ };
void tls_record_save(const struct tls_record *record, struct pack *pack);
int tls_record_restore(struct tls_record *ret_record, struct unpack *unpack, unsigned version);

/* Wipes the state and the contexts that have its keys. Accepts a zeroed one. */
void tls_record_wipe(struct tls_record *record, struct tls_crypto *crypto);
