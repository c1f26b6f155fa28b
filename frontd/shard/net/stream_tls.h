#pragma once

/*
 * TLS on a stream that this shard has dialled: a channel to a worker elsewhere (tls://). OpenSSL
 * has the socket from the handshake to the end, since such a stream ends with its shard: the shards
 * of the next generation dial their own.
 *
 * The functions do not block. They fail with EAGAIN where the peer, or room for what is sent, is to
 * be waited for.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "common/base.h"

struct ssl_ctx_st;
struct ssl_st;

enum {
    /* Bytes of room that stream_tls_read() needs, so that no part of a record stays in OpenSSL,
     * where no event of the socket would tell of it. */
    STREAM_TLS_ROOM = 16 * 1024,
};

/*
 * What clients of a pool's workers share: at least TLS 1.2, AEAD suites, and the peer has to be of
 * `ca`. All texts are PEM. cert, key: what this side shows of itself, empty: nothing. Returns 0
 * with *ret (stream_tls_context_free()), -EINVAL where a text is not what it should be, or -ENOMEM.
 */
int stream_tls_context(struct span ca, struct span cert, struct span key, struct ssl_ctx_st **ret);

/* Accepts NULL; returns NULL. */
struct ssl_ctx_st *stream_tls_context_free(struct ssl_ctx_st *context);

/*
 * A client on a socket that is being connected. name: the peer's certificate has to be for it, a
 * name or an IP address; borrowed. fd: the caller's, as is the result: SSL_free(). NULL: no memory.
 */
struct ssl_st *stream_tls_new(struct ssl_ctx_st *context, int fd, const char *name);

/* Accepts NULL; returns NULL. Sends nothing. */
struct ssl_st *stream_tls_free(struct ssl_st *tls);

/*
 * Goes on with the handshake. Returns 0 when it is done; -EAGAIN; or -EPROTO or another -errno with
 * *ret_why, a static text.
 */
int stream_tls_connect(struct ssl_st *tls, const char **ret_why);

/* Whether the handshake, or a write, waits for room in the socket, and not for the peer. */
bool stream_tls_wants_room(const struct ssl_st *tls);

/*
 * As read(): reads what has come, until less than STREAM_TLS_ROOM of the room is left. 0 only where
 * the peer has said that nothing follows (close_notify); a socket that ends without is ECONNRESET.
 * Where bytes are returned errno is 0, or what the next call will fail with: no event tells of it.
 */
ssize_t stream_tls_read(struct ssl_st *tls, char *room, size_t n);

/*
 * As write(): returns how many bytes are with the kernel. After EAGAIN the same bytes are to be
 * offered again, and perhaps more behind them.
 */
ssize_t stream_tls_write(struct ssl_st *tls, const char *p, size_t n);

/*
 * What an error of these functions means, as -errno: of EPROTO what was wrong or which alert the
 * peer has sent. tls: NULL: none. Returns a static text.
 */
const char *stream_tls_error_text(const struct ssl_st *tls, int error);

/* Says that nothing follows (close_notify). What the socket does not take of it is lost. */
void stream_tls_shut(struct ssl_st *tls);
