#pragma once

/*
 * TLS as the transport of a connection: a handshake first (`transport.opening`), then records.
 *
 * - Reading: records are opened where they were read; what is incomplete is kept for the next time.
 * - Writing: a record at a time is sealed. What the kernel does not take of it is kept as it is
 *   (`transport.unsent`), and nothing is sealed meanwhile.
 * - What the record layer has to say by itself goes out in the same way, also where there is
 *   nothing to write.
 * - The end: close_notify, then our side is shut. The client's close_notify is the end of input. So
 *   is the end of its side without one, since many clients send none; `transport.truncated` then
 *   tells of it.
 * - A violation: read() fails with EPROTO, the alert is what is unsent, and what still comes is
 *   dropped.
 */

#include "frontd/codec/tls_record.h"
#include "frontd/shard/tls/tls.h"
#include "frontd/shard/tls/tls_held.h"

struct tls_handshake;

struct tls_transport {
    struct transport transport;
    struct tls *tls;
    struct tls_handshake *handshake; /* until it has ended; NULL: it has */
    struct tls_info *info;           /* a reference; NULL: the handshake has not ended */
    struct tls_held *held;           /* NULL: nothing */
    struct tls_record record;
};
_Static_assert(sizeof(struct tls_transport) <= 250, "an idle TLS connection costs so much more");

extern const struct transport_ops tls_transport_ops;

/*
 * The transport of a connection that was just accepted. listener: its index in the config, one with
 * tls. owner: for tls->owners. NULL without memory. Freed by its ops.
 */
struct transport *tls_transport_new(struct tls *tls, uint32_t listener, void *owner);

/* What workers are told of it: a JSON object; empty: the handshake has not ended, or it is no TLS.
 */
struct span tls_transport_info(const struct transport *transport);

/* For tls.c */

/* Gives the handshake its next record, and tells the owner. */
void tls_transport_step(struct tls_transport *transport);

/* The handshake is given up, with tls->failure: the owner is told. */
void tls_transport_fail(struct tls_transport *transport);
