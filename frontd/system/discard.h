#pragma once

#include "common/base.h"

/*
 * Closes descriptors that came from a shard, or sockets through which some may still be on their
 * way. close() waits for what is on the other side (a FUSE file system that answers its FLUSH, a
 * socket with SO_LINGER), so a process does it that shares our descriptors: each is ours no more at
 * once. It is reaped like any child, and ends with us.
 *
 * wait_ms: for how long to wait for that all the same; what is as it should be is closed by then.
 */
void discard(const int *fds, size_t n, unsigned wait_ms);
