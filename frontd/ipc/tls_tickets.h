#pragma once

/*
 * The keys of session tickets (RFC 5077, RFC 8446 section 4.6.1). The supervisor makes them, makes
 * a new one at times, and gives all of them to every shard (CTL_TICKETS), so that a client resumes
 * its session whatever shard its next connection comes to, over reloads and crashes. They are in
 * no file and no log. Pure: the time and random bytes are arguments.
 *
 * Times are ms of CLOCK_BOOTTIME, which all processes share and which no setting of the clock
 * changes.
 *
 * A new key is made each half lifetime, and encrypts all tickets until the next one is made. A key
 * is kept until the last ticket that it has encrypted is too old. The lifetime is the longest one
 * of all listeners with tls; each listener holds its own against a ticket's age by itself.
 */

#include "common/base.h"
#include "frontd/config/config.h"

enum {
    TLS_TICKET_NAME_SIZE = 16, /* bytes, as all of these */
    TLS_TICKET_AES_SIZE = 32,
    TLS_TICKET_HMAC_SIZE = 32,
    TLS_TICKET_RANDOM_SIZE = TLS_TICKET_NAME_SIZE + TLS_TICKET_AES_SIZE + TLS_TICKET_HMAC_SIZE,
    /* 4 are alive at the most where the lifetime does not change; further ones are left from
     * longer lifetimes. */
    TLS_TICKET_KEYS_MAX = 8,
};

struct tls_ticket_key {
    uint8_t name[TLS_TICKET_NAME_SIZE]; /* stands at the start of each ticket; not secret */
    uint8_t aes[TLS_TICKET_AES_SIZE];   /* AES-256 */
    uint8_t hmac[TLS_TICKET_HMAC_SIZE]; /* HMAC-SHA-256 */
    uint64_t made;
    uint64_t until; /* no ticket that it has encrypted is valid any more at that time */
};

/* The newest first: keys[0] encrypts, all of them decrypt. None: there are no tickets. */
struct tls_ticket_keys {
    uint64_t count;
    struct tls_ticket_key keys[TLS_TICKET_KEYS_MAX];
};

/*
 * Brings the keys up to date: makes the first or next one where that is due, and takes away those
 * that are too old. lifetime: ms; 0: no listener gives tickets, all keys go, and the result for
 * their last tickets is a full handshake. random: fresh, secret bytes; the caller wipes them.
 * Returns whether anything changed that shards have to be told.
 */
bool tls_tickets_step(struct tls_ticket_keys *keys, uint64_t now, uint64_t lifetime,
    const uint8_t random[static TLS_TICKET_RANDOM_SIZE]);

/* ms until tls_tickets_step() is due; UINT64_MAX: never. lifetime: as there. */
uint64_t tls_tickets_due(const struct tls_ticket_keys *keys, uint64_t now, uint64_t lifetime);

/*
 * Whether keys that another process has sent are what this module makes: their number, their order
 * by `made`, no time in the future, none that lasts longer than any lifetime allows, no name twice.
 */
bool tls_tickets_valid(const struct tls_ticket_keys *keys, uint64_t now);

/* The key with that name; NULL: there is none. */
const struct tls_ticket_key *tls_tickets_find(
    const struct tls_ticket_keys *keys, const uint8_t name[static TLS_TICKET_NAME_SIZE]);

/* The present time for `now`. */
uint64_t tls_tickets_now(void);
