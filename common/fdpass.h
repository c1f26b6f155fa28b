#pragma once

/*
 * Messages with descriptors over a SOCK_SEQPACKET socket: each message is whole or an error.
 * Received descriptors are close-on-exec from birth; MSG_CTRUNC (the receiver is at its descriptor
 * limit, and the kernel dropped some without an error) is an error.
 *
 * When a peer closes while a message to it is still unread, the kernel reports ECONNRESET once,
 * before it hands out what the peer had sent. These functions read on to that, and to 0.
 */

#include <sys/types.h>

#include "common/base.h"

enum {
    FDPASS_FDS_MAX = 253, /* SCM_MAX_FD of the kernel */
};

/*
 * Sends one message; the descriptors are borrowed. Returns 0, -EAGAIN when the socket is full, or
 * another -errno.
 */
int fdpass_send(int sock, const void *message, size_t n, const int *fds, size_t nfds);

/*
 * Receives one message. fds has room for FDPASS_FDS_MAX; they belong to the caller afterwards.
 * Returns the bytes of the message (0: the peer has closed), -EAGAIN, -EMSGSIZE (longer than
 * `size`, or MSG_CTRUNC: every descriptor that did come is closed), or another -errno.
 */
ssize_t fdpass_receive(int sock, void *message, size_t size, int *fds, size_t *ret_nfds);

/*
 * As fdpass_receive(), for callers that can deal with MSG_CTRUNC: *ret_dropped says that the
 * kernel dropped some of the descriptors; the message and the other descriptors are the caller's.
 */
ssize_t fdpass_receive_some(
    int sock, void *message, size_t size, int *fds, size_t *ret_nfds, bool *ret_dropped);

/*
 * As fdpass_receive(), for callers that must not close what a peer has sent, since close() may
 * wait for the other side of a descriptor: *ret_nfds and the descriptors are the caller's,
 * whatever is returned. *ret_flags: msg_flags, with MSG_TRUNC when the message was longer than
 * `size`.
 */
ssize_t fdpass_receive_all(
    int sock, void *message, size_t size, int *fds, size_t *ret_nfds, int *ret_flags);

/* Closes `n` descriptors. */
void fdpass_close(const int *fds, size_t n);
