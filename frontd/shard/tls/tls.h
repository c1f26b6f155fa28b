#pragma once

/*
 * The TLS of a shard: what its listeners serve with, and the handshakes that are in progress.
 *
 * A handshake costs a thousand times what a request does, so it is not made where bytes are read.
 * tls_transport.c reads a record and queues the handshake; tls_turn() takes steps, for a bounded
 * time at the end of each turn of the loop, when what has come on established connections has been
 * dealt with. A step gives OpenSSL one record, and what it answers is sent. The longest one takes
 * as long as TLS_TURN_NS, so a call waits for two at most; shorter turns cost 2 % more a handshake.
 *
 *   waiting  the client's first record is there, but nothing of OpenSSL is yet
 *   ready    the handshake has begun, and the next record is there; these come first
 *
 * OpenSSL takes 47 KB for a handshake, so they are bounded: TLS_HANDSHAKES_MAX, and what a quarter
 * of limits.memory has room for. At that bound, the oldest one whose client has been silent for
 * HANDSHAKE_SILENT_MS goes for one that waits; else those that wait are not read meanwhile. (So
 * clients that begin handshakes and leave them do not keep others out.) While memory is short none
 * is begun.
 */

#include "common/slab.h"
#include "frontd/codec/tls_record.h"
#include "frontd/shard/net/ctx.h"
#include "frontd/shard/net/transport.h"
#include "frontd/shard/tls/tls_context.h"
#include "frontd/shard/tls/tls_failure.h"
#include "frontd/shard/tls/tls_info.h"

enum {
    TLS_HANDSHAKES_MAX = 1024,       /* in progress, of a shard: 47 MB */
    TLS_HANDSHAKES_PART = 4,         /* of limits.memory they may take this part */
    TLS_HANDSHAKE_BYTES = 47 * 1024, /* what OpenSSL takes for one, as limits.memory counts it */
    TLS_HANDSHAKE_SILENT_MS = 1000,
    TLS_SCRATCH_SIZE = TLS_RECORD_MAX + TLS_ANSWERS_MAX, /* bytes: what is sealed at once */
    TLS_TURN_NS = 250000, /* of steps in a turn: then the one under way is the last */
};

struct tls_handshake;

/* What a handshake calls upwards. owner: as at tls_transport_new(). */
struct tls_owner_ops {
    /* A step was made: there may be something to write, and more is to be read. */
    void (*went_on)(void *owner);
    /* It has succeeded. alpn: what was agreed on; empty: nothing. */
    void (*opened)(void *owner, struct span alpn);
    /* It has failed: tls->failure says why. What is to be written is left to be sent. */
    void (*failed)(void *owner);
};

struct tls {
    struct ctx *ctx;
    const struct tls_owner_ops *owners;
    struct tls_crypto *crypto;    /* NULL: nothing has needed it yet */
    struct tls_context *contexts; /* by the index of the listener; NULL: none has tls */
    struct tls_infos infos;
    struct tls_failure failure; /* the last one */
    uint8_t *scratch;           /* TLS_SCRATCH_SIZE bytes; with `crypto` */
    struct slab transports;
    struct slab openings; /* struct tls_handshake */
    struct list waiting;
    struct list ready;
    struct wheel_timer timer; /* while `blocked`: when to look again */
    bool blocked;             /* none of those that wait can begin for now */
    struct list begun;   /* handshakes in progress that wait for their clients, the oldest first */
    unsigned most;       /* handshakes in progress at once */
    unsigned handshakes; /* in progress: in `ready` and `begun` */
};

/* ctx, owners: borrowed. */
void tls_init(struct tls *tls, struct ctx *ctx, const struct tls_owner_ops *owners);

/* When all connections are gone. */
void tls_deinit(struct tls *tls);

/*
 * Takes what the listeners of the config are to serve with, once. material: not needed afterwards.
 * Tickets have the keys of ctx->ticket_keys, which may change in place later. Returns 0; or -errno,
 * and the log says why.
 */
int tls_use(struct tls *tls, const struct tls_material *material);

/* Makes what all connections have in common, where it is not there yet. Returns 0 or -ENOMEM. */
int tls_prepare(struct tls *tls);

/* The next record of a handshake is there: it is queued for tls_turn(). */
void tls_queue(struct tls_handshake *handshake);

/* The handshake ends, however: it is in no queue any more. */
void tls_leave(struct tls_handshake *handshake);

/* The end of a turn: takes steps of handshakes for a while. */
void tls_turn(struct tls *tls);

/* The wheel timer has expired. */
void tls_timeout(struct wheel_timer *timer);

/* Whether steps can be taken already: the loop does not wait. */
static inline bool tls_unfinished(const struct tls *tls)
{
    return !list_empty(&tls->ready) || (!list_empty(&tls->waiting) && !tls->blocked);
}
