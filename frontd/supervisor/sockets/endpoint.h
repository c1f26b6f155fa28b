#pragma once

/* One listening socket: how it is bound, what is in its way, and what it is called. */

#include "frontd/config/config.h"

/*
 * Binds a TCP socket that does not listen yet. reuse_port: beside others of this user that have it
 * set. Returns the descriptor (close-on-exec, non-blocking, the caller's) or -errno.
 */
int endpoint_bind_tcp(const struct conf_address *address, bool reuse_port);

/*
 * Whether a TCP port is free: 0 or -errno. SO_REUSEPORT would let a second program with our user id
 * share the port in silence; a bind without it fails where another socket listens.
 */
int endpoint_try_tcp(const struct conf_address *address);

/*
 * Binds a UNIX socket, which every user may connect to once it listens. A socket that is at the
 * path is replaced where it is stale and ours. Returns the descriptor, as above, or -errno.
 */
int endpoint_bind_unix(const struct conf_address *address);

/* Unlinks the path of a UNIX socket, if it is still what bind() has made. ino: 0 is nothing. */
void endpoint_unlink(const struct conf_address *address, uint64_t dev, uint64_t ino);

/*
 * Whether an address could be bound now: 0 or -errno, for endpoint_explain(). Nothing is left
 * behind, and only a server at a UNIX path notices: a connection comes and goes.
 */
int endpoint_probe(const struct conf_address *address);

/* Whether an error of binding means that this machine does not have the address, or its family. */
bool endpoint_is_foreign(int r);

/* What an error of binding means, in words. */
const char *endpoint_explain(int r);

/* The address that a socket is bound to, as the config would have it. 0 or -errno. */
int endpoint_address(int fd, struct conf_address *ret_address);

/* What the kernel calls that socket, and no other ever; 0 where it is no socket. */
uint64_t endpoint_cookie(int fd);
