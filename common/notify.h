#pragma once

/*
 * Messages to the service manager, as sd_notify(3) describes them: one datagram of NAME=VALUE lines
 * to the socket that the environment variable NOTIFY_SOCKET names.
 */

#include "common/base.h"

/*
 * Whether the service manager listens to this process: NOTIFY_SOCKET is set, and was not inherited
 * from another process that systemd started (SYSTEMD_EXEC_PID, since systemd 248, is the PID of
 * the process that it has started).
 */
bool notify_wanted(void);

/*
 * Sends one message, printf-like, of less than 512 bytes; never blocks. Returns 0, also where
 * NOTIFY_SOCKET is not set, or -errno: -EINVAL for a NOTIFY_SOCKET that is no UNIX address.
 */
int notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));
