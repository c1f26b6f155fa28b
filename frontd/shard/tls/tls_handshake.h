#pragma once

/*
 * A handshake by OpenSSL, over memory: it is given one record at a time, so that nothing behind the
 * client's Finished enters it. Then the keys are taken over by codec/tls_record, and OpenSSL's part
 * is freed.
 *
 * The keys: of TLS 1.3 the traffic secrets by the keylog callback, which is there from a Finished
 * to the end of the step, since OpenSSL formats each secret for it, byte by byte, also those that
 * are not wanted: 6 % of a handshake's time; of 1.2 the master secret and the randoms. Which record
 * is next is never assumed: it is proven, by opening the last records that OpenSSL has sealed
 * (tls_record_prove()).
 */

#include "frontd/codec/tls_record.h"
#include "frontd/shard/tls/tls.h"

struct tls_transport;

struct tls_handshake {
    struct list node; /* in one of the lists of `tls`, or alone */
    struct tls *tls;
    struct tls_transport *transport;
    const struct tls_context *context;
    void *owner;
    uint64_t heard_at; /* ms: when something came last, or OpenSSL has had it */
    bool queued;       /* a record is there: nothing more is read until OpenSSL has had it */
    bool deaf;         /* more has come meanwhile: the descriptor is not polled for that */
    SSL *ssl;          /* NULL: it has not begun */
    BIO *in;           /* ssl's */
    BIO *out;
    struct buf finished; /* 1.2: what OpenSSL has sent with its Finished */
    uint8_t secret_size; /* 1.3: bytes of each; 0: they are not known */
    uint8_t client_secret[TLS_SECRET_MAX];
    uint8_t server_secret[TLS_SECRET_MAX];
};

enum tls_step { TLS_STEP_MORE, TLS_STEP_DONE, TLS_STEP_FAILED };

/* Called with each message of a handshake (tls_context_init()). */
void tls_handshake_message(
    int written, int version, int content_type, const void *message, size_t n, SSL *ssl, void *arg);

/* Begins it: OpenSSL's part is made. Returns 0 or -ENOMEM. */
int tls_handshake_begin(struct tls_handshake *handshake);

/*
 * Gives it one record, as it came. out: what is to be sent is appended, also on failure. With
 * TLS_STEP_FAILED, tls->failure says why.
 */
enum tls_step tls_handshake_step(
    struct tls_handshake *handshake, struct span record, struct buf *out);

/*
 * After TLS_STEP_DONE: the connection is ready to be carried on. Returns 0 with *ret_record,
 * *ret_info (a reference) and *ret_alpn (static, or the config's); or -errno, with tls->failure:
 * nothing of it may be used then.
 */
int tls_handshake_take_over(struct tls_handshake *handshake, struct tls_record *ret_record,
    struct tls_info **ret_info, struct span *ret_alpn);

/* Frees OpenSSL's part and wipes the secrets; what is left is ready to be freed. */
void tls_handshake_end(struct tls_handshake *handshake);
