#pragma once

/*
 * The listening sockets, by their addresses, of which a listener may have several: for each TCP
 * address one SO_REUSEPORT socket a shard, for each UNIX address one that all shards share; where
 * the service manager has passed sockets of an address, all shards share these. Of `admin` there is
 * one socket for each address, for the admin process alone. They outlive
 * generations: an address that stays in the config keeps its sockets, and what waits in their
 * accept queues; where shards became fewer, each accepts on several.
 */

#include "frontd/supervisor/sockets/sd_listen.h"

enum { ENDPOINTS_MAX = 2 * (CONF_ALL_ADDRESSES_MAX + CONF_ADDRESSES_MAX) /* of two generations */ };

/* The sockets of one address. */
struct endpoint {
    struct conf_address address;
    int *fds;
    uint32_t count;
    bool shared;  /* each socket is for all shards */
    uint64_t dev; /* what bind() made of a UNIX path, so that no other is unlinked; ino 0: */
    uint64_t ino; /* nothing of ours */
};

struct endpoints {
    const struct sd_listen *sd_listen; /* borrowed: what was passed */
    struct endpoint all[ENDPOINTS_MAX];
    size_t count;
};

/*
 * Binds what the config needs and is not there yet, or nothing. What is bound refuses clients until
 * endpoints_listen(): a client that came earlier might wait for shards that never serve. Of a
 * listener with several addresses those are left out, with a line in the log, of a family that this
 * machine does not have; and those that the service manager has not passed, where it has passed
 * others of them. Returns 0, or -errno with a message that names the listener in `error`.
 * Descriptors are close-on-exec and non-blocking.
 */
int endpoints_bind(
    struct endpoints *endpoints, const struct conf *conf, char *error, size_t error_size);

/*
 * Waits up to a second until nobody listens at the addresses of `admin`, for a start: the admin
 * process of a supervisor that was killed has them until it has ended, too.
 */
void endpoints_await(const struct endpoints *endpoints, const struct conf_admin *admin);

/*
 * Binds anew the UNIX listeners where the path is not the socket any more that was made for it: it
 * was removed, or something else has its name. The old socket stays beside the new one until
 * endpoints_prune(), for what waits in its queue. Each is logged; a path of the service manager's
 * is logged only. Returns 0, or -errno with a message in `error`; endpoints_roll_back() takes back
 * what was done until then.
 */
int endpoints_renew(
    struct endpoints *endpoints, const struct conf *conf, char *error, size_t error_size);

/* From now on clients may connect to all of them, and wait in their queues. 0 or -errno. */
int endpoints_listen(const struct endpoints *endpoints);

/*
 * Takes back what endpoints_bind() has bound since then: `before` is a copy of what was there,
 * which may be used for this only.
 */
void endpoints_roll_back(struct endpoints *endpoints, const struct endpoints *before);

/* The sockets of an address, or NULL. */
struct endpoint *endpoints_find(struct endpoints *endpoints, const struct conf_address *address);

/* Adds a socket that is bound already; fd: consumed. Returns 0, -ENOMEM or -ENOSPC. */
int endpoints_add(struct endpoints *endpoints, const struct conf_address *address, int fd);

/*
 * Closes those that the config does not have, and unlinks the UNIX paths that are ours; closes the
 * sockets of a path that was bound anew. NULL: all.
 */
void endpoints_prune(struct endpoints *endpoints, const struct conf *conf);

/* Whether two addresses are the same. */
bool endpoint_is(const struct endpoint *endpoint, const struct conf_address *address);
