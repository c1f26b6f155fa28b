#pragma once

/*
 * Looks up the names of workers (tcp://NAME:PORT) without holding the shard up. This is done by a
 * process that the shard forks before it shuts itself in: a look-up reads files, asks servers over
 * UDP, and may load libraries, none of which a shard is allowed to (sandbox.c); libuv's look-ups,
 * in threads, need the same. The supervisor does not do it, since a process that may be root is not
 * to read what a server has sent. There is one process for each look-up, so that none waits for
 * another, and one that starts the serving process again when that has been killed.
 */

#include "frontd/shard/net/ctx.h"

enum {
    RESOLVER_ADDRESSES_MAX = CONF_ADDRESSES_MAX, /* addresses of a name; more are not used */
    RESOLVER_NAME_MAX = 256,                     /* bytes, the NUL included */
    RESOLVER_LIMIT_S = 20,                       /* how long one look-up may take */
};

/* A shard's connection to these processes. Zeroed: there is none. */
struct resolver {
    uv_poll_t poll;
    struct list waiting; /* queries that have been asked and not answered */
    uint64_t last_id;
    int fd;
    bool open;
};

struct resolver_query {
    struct list node; /* in resolver->waiting until it is answered */
    uint64_t id;
    /*
     * The answer: n addresses, borrowed, in the order in which they are to be tried (RFC 8305
     * section 4); or n == 0, and why: text that is static, or gai_strerror()'s.
     */
    void (*answered)(struct resolver_query *query, const struct conf_address *addresses, size_t n,
        const char *why);
};

/*
 * Starts the processes, as the user that the shard is by now. Before the filter of system calls.
 * Returns a socket to it, the caller's, or -errno.
 */
int resolver_start(void);

/*
 * From now on it may be asked, as ctx->resolver. fd: of resolver_start(), consumed. Returns 0 or
 * -errno.
 */
int resolver_open(struct resolver *resolver, struct ctx *ctx, int fd);

/*
 * Queries that wait are not answered any more. Accepts one that is not open. Its memory may be used
 * again once the loop has run its close callbacks.
 */
void resolver_close(struct resolver *resolver);

/*
 * Asks for the addresses of a host. The query is the caller's, zeroed at first; it is answered from
 * the loop, once, unless it is cancelled. resolver: may be NULL, or not open. Returns 0, or -errno
 * where it cannot be asked now.
 */
int resolver_ask(
    struct resolver *resolver, struct resolver_query *query, const char *host, uint16_t port);

/* Accepts one that does not wait. */
void resolver_cancel(struct resolver_query *query);

/* Whether it has been asked and not answered. */
static inline bool resolver_waits(const struct resolver_query *query)
{
    return query->node.next != NULL && !list_empty(&query->node);
}

/* Puts addresses into the order of RFC 8305: families by turns, beginning with the first one's. */
void resolver_interleave(struct conf_address *addresses, size_t n);
