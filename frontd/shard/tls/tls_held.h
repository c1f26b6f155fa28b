#pragma once

/*
 * What a TLS connection has besides its state, for as long as there is any: bytes that were read
 * and not opened, and records that were sealed and not written. Pure.
 */

#include "common/pack.h"
#include "frontd/codec/tls_record.h"

enum {
    /* Of a record, in a handshake too: there its data may be larger where it is encrypted (RFC 5246
     * section 6.2.3). */
    TLS_HELD_RECORD_MAX = TLS_HEADER_SIZE + TLS_FRAGMENT_MAX + 2048,
};

struct tls_held {
    struct buf in;  /* part of a record, or records that wait to be opened */
    struct buf out; /* sealed, and not written yet */
    uint64_t since; /* ms: when `in` began to wait for the rest of its first record */
};

/* The functions take NULL for one that holds nothing. */

static inline size_t tls_held_in(const struct tls_held *held)
{
    return held == NULL ? 0 : buf_len(&held->in);
}

static inline size_t tls_held_out(const struct tls_held *held)
{
    return held == NULL ? 0 : buf_len(&held->out);
}

/* Bytes of the whole record that `in` begins with; 0: it does not. Of one that is too long to be
 * right, what is there counts as the whole: its header is enough for it to be refused. */
size_t tls_held_record(const struct tls_held *held);

/* Whether the first record of `in` is begun, and not whole with so many bytes more. */
bool tls_held_is_part(const struct tls_held *held, size_t more);

/*
 * Appends bytes to `in`, which wait since that time in ms, or to `out`; *held is made where it is
 * NULL. Returns 0 or -ENOMEM.
 */
int tls_held_add_in(struct tls_held **held, const void *bytes, size_t n, uint64_t since);
int tls_held_add_out(struct tls_held **held, const void *bytes, size_t n);

/* Frees *held where nothing is left in it: to be called when something was taken out. */
void tls_held_tidy(struct tls_held **held);

/* Drops all that is held. */
void tls_held_free(struct tls_held **held);

/* For another process. restore() returns 0 with *held, -EBADMSG or -ENOMEM. */
void tls_held_save(const struct tls_held *held, struct pack *pack);
int tls_held_restore(struct tls_held **held, struct unpack *unpack, uint64_t now);
