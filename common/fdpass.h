#pragma once

/*
 * Messages with descriptors over a SOCK_SEQPACKET socket: each message is whole or an error.
 * Received descriptors are close-on-exec from birth; MSG_CTRUNC (the receiver is at its descriptor
 * limit and the kernel dropped some in silence) is an error.
 *
 * A peer that closes while something we have sent is still unread makes the kernel say ECONNRESET
 * once, before it hands out what the peer had sent: these functions go on to that, and to 0.
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
 * The same, for who has an answer to MSG_CTRUNC: *ret_dropped says that the kernel dropped some of
 * the descriptors; the message and the others are the caller's.
 */
ssize_t fdpass_receive_some(
    int sock, void *message, size_t size, int *fds, size_t *ret_nfds, bool *ret_dropped);

/*
 * The same, for who closes nothing by themselves that a peer has sent, since close() may wait for
 * what is on the other side of it: *ret_nfds and the descriptors are the caller's whatever comes.
 * *ret_flags: msg_flags, with MSG_TRUNC where the message was longer than `size`.
 */
ssize_t fdpass_receive_all(
    int sock, void *message, size_t size, int *fds, size_t *ret_nfds, int *ret_flags);

/* Closes `n` descriptors. */
void fdpass_close(const int *fds, size_t n);
