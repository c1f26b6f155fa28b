#pragma once

/*
 * What the supervisor tells the service manager that started it (systemd, or another one that set
 * NOTIFY_SOCKET): that it is ready, reloads, stops, and, where a watchdog is set, that its loop
 * still turns. Without a manager every function here does nothing.
 *
 * The variables stay in the environment: a program that is executed in place reads them again. A
 * process that is spawned is not given them.
 */

#include <uv.h>

#include "common/base.h"

struct sd_notify {
    uv_timer_t watchdog;
    uint64_t watchdog_ms; /* between two pings; 0: none is asked for */
    bool wanted;          /* there is a manager */
    bool pinging;         /* the timer's handle is open */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. */
void sd_notify_init(struct sd_notify *sd_notify);

/* Begins to ping the watchdog, at half the interval that it allows, the first time now. */
void sd_notify_start(struct sd_notify *sd_notify, uv_loop_t *loop);

/* Ends the pings; the timer's handle is closed when the loop has turned. */
void sd_notify_close(struct sd_notify *sd_notify);

/* The front serves: told at the end of a start, and of each reload, whether it succeeded or not. */
void sd_notify_ready(const struct sd_notify *sd_notify);

/* A reload begins. sd_notify_ready() ends it. */
void sd_notify_reloading(const struct sd_notify *sd_notify);

/* Stopping begins, and takes `within` ms at most: the manager is asked to wait for so long. */
void sd_notify_stopping(const struct sd_notify *sd_notify, uint64_t within);

/* A line for people, printf-like, cut off at 400 bytes; line breaks in it become spaces. */
void sd_notify_status(const struct sd_notify *sd_notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * The variables that are meant for the supervisor alone, so that no other process speaks in its
 * name; ends with NULL, for spawn_start().
 */
extern const char *const sd_notify_variables[];
