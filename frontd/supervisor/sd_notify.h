#pragma once

/*
 * What the supervisor tells the service manager that started it (systemd, or whoever else set
 * NOTIFY_SOCKET): that it is ready, reloads, stops, and, where a watchdog is set, that its loop
 * still turns. Without a manager every function here does nothing.
 *
 * The variables stay in the environment: a program that is executed in place reads them again. A
 * process that is forked calls sd_notify_forget() before it executes anything.
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

/* Serving: at the end of a start, and of each reload, whether it succeeded or not. */
void sd_notify_ready(const struct sd_notify *sd_notify);

/* A reload begins. sd_notify_ready() ends it. */
void sd_notify_reloading(const struct sd_notify *sd_notify);

/* Stopping begins, and takes `within` ms at most: the manager is asked to wait for so long. */
void sd_notify_stopping(const struct sd_notify *sd_notify, uint64_t within);

/* A line for people, printf-like, cut off at 400 bytes; line breaks in it become spaces. */
void sd_notify_status(const struct sd_notify *sd_notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * In a forked child, before it executes anything: removes what is meant for the supervisor alone
 * from the environment, so that nobody else speaks in its name, and gives up the ambient
 * capabilities, which an executed program would get.
 */
void sd_notify_forget(void);
