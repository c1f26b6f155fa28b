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

struct transport;

struct transport_ops {
    /*
     * As recv(): up to `n` bytes into `room`; 0 is the end of input. -1 with errno: EAGAIN, where
     * the event that wants() names is to be waited for; anything else ends the connection.
     */
    ssize_t (*read)(struct transport *transport, int fd, void *room, size_t n);
    /*
     * As writev() without a signal: returns how many bytes the kernel has taken, or -1 with errno
     * as read(). After EAGAIN the same bytes are offered again, and perhaps more behind them.
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
     * As shutdown(SHUT_WR): nothing is written any more. Returns 0, or -1 with errno, which ends
     * the connection.
     */
    int (*shut)(struct transport *transport, int fd);
    /* Whether save() may be called now: if not, the connection stays in this process. */
    bool (*can_move)(const struct transport *transport);
    /*
     * For another process: all that the transport knows, and the bytes that it has read, but not
     * returned yet. It goes on here, too, where the other process does not take the connection.
     */
    void (*save)(const struct transport *transport, struct pack *pack);
    /* Makes one of what save() has packed. Returns 0 with *ret, -ENOTSUP, -EBADMSG or -ENOMEM. */
    int (*restore)(struct transport **ret, int fd, struct unpack *unpack);
    /* Wipes its keys and frees it. Nothing is sent: the connection may live on in another process.
     */
    void (*free)(struct transport *transport);
};

struct transport {
    const struct transport_ops *ops;
};
