#pragma once

/*
 * How the bytes of a connection become those on its descriptor. A plain connection has no transport
 * (NULL): its bytes go as they are, which costs one branch. One that encrypts, say, implements
 * these functions; its struct begins with struct transport.
 *
 * A transport counts as one that has keys, of which a number must never be used twice. A connection
 * with one has one owner at any time (handover/message.h): from save() on nothing is read, written
 * or shut until it is known that the other process does not take it; and nothing after restore()
 * until it is known that the other one has wiped its keys.
 *
 * None of the functions blocks. Descriptors are borrowed, and the same in all calls.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/pack.h"

enum {
    TRANSPORT_ROOM_MIN = 24 * 1024, /* bytes of room that read() is given at least */
};

struct client;
struct ctx;
struct transport;

struct transport_ops {
    /*
     * As recv(): up to `n` bytes into `room`; 0 is the end of input. -1 with errno: EAGAIN, where
     * the event that wants() names is to be waited for; EPROTO, where nothing can be read or
     * written any more but what is `unsent`; anything else ends the connection at once.
     */
    ssize_t (*read)(struct transport *transport, int fd, void *room, size_t n);
    /*
     * As writev() without a signal: returns how many bytes it has taken, or -1 with errno, EAGAIN
     * as read(), anything else ends the connection. What it has taken it writes, now or later:
     * what the kernel has not taken yet is in `unsent`. Called with n == 0 to write that alone.
     */
    ssize_t (*writev)(struct transport *transport, int fd, const struct iovec *iov, int n);
    /*
     * Which of EPOLLIN and EPOLLOUT the descriptor is to be polled for, where the connection is to
     * be read (EPOLLIN in `events`), written (EPOLLOUT), or both. Asked at the end of a turn in
     * which it was read or written. At any of these events both read() and writev() are tried, as
     * far as they are wanted: a writev() that has waited for EPOLLIN reads from the descriptor.
     */
    uint32_t (*wants)(const struct transport *transport, uint32_t events);
    /*
     * Whether read() has something to return (bytes, the end of input, an error) without reading
     * from the descriptor: no event would tell of it.
     */
    bool (*has_bytes)(const struct transport *transport);
    /*
     * ms: since when the rest of something has been awaited, of which only the beginning has come
     * (a record); UINT64_MAX: nothing is. NULL: never.
     */
    uint64_t (*waits_since)(const struct transport *transport);
    /* It was not read for a while, which is not held against what it waits for. NULL as above. */
    void (*resumed)(struct transport *transport);
    /*
     * As shutdown(SHUT_WR): nothing is written any more, but for what is `unsent` then, after which
     * the descriptor is shut. Returns 0, or -1 with errno, which ends the connection.
     */
    int (*shut)(struct transport *transport, int fd);
    /* Whether save() may be called now: if not, the connection stays in this process. */
    bool (*can_move)(const struct transport *transport);
    /*
     * For another process: all that the transport knows, and the bytes that it has read, but not
     * returned yet. It goes on here, too, where the other process does not take the connection.
     */
    void (*save)(const struct transport *transport, struct pack *pack);
    /* Makes one of what save() has packed, of the shard of `ctx`. Returns 0 with *ret, -ENOTSUP,
     * -EBADMSG or -ENOMEM. */
    int (*restore)(struct transport **ret, struct ctx *ctx, int fd, struct unpack *unpack);
    /* Wipes its keys and frees it. Nothing is sent: the connection may live on in another process.
     */
    void (*free)(struct transport *transport);
    /*
     * The client on whose connection this one is a stream, and which moves it: client_carrier(). It
     * has no descriptor (-1), and can_move, save and restore are not called. NULL: it is none.
     */
    struct client *(*carrier)(const struct transport *transport);
};

struct transport {
    const struct transport_ops *ops;
    uint32_t unsent;    /* bytes that wait to be written, besides what writev() is given */
    bool opening : 1;   /* it is not ready yet: read() returns nothing, writev() takes nothing */
    bool truncated : 1; /* the input has ended in a way in which anybody could have ended it */
    bool worn : 1;      /* it cannot be used for much longer: the connection is to end soon */
    /* Its own: */
    bool broken : 1; /* nothing is read or written any more but what is unsent */
    bool shuts : 1;  /* the descriptor is shut once nothing is unsent */
};
