#include "frontd/supervisor/sd_notify.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/notify.h"

enum {
    STATUS_MAX = 400, /* bytes; with its name well below what one message may have */
    /*
     * A manager whose queue is full is waited for, since it would take a READY that never came for
     * a failed start. Not for long: a supervisor that waits starts no shard again.
     */
    TRIES = 100,
    TRY_MS = 10,
};

const char *const sd_notify_variables[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", NULL};

/* Reads a number that is the whole text. */
static bool parse(const char *text, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0)
        return false;
    *ret_number = number;
    return true;
}

static uint64_t read_watchdog(void)
{
    const char *usec_text = getenv("WATCHDOG_USEC");
    const char *pid_text = getenv("WATCHDOG_PID");
    uint64_t usec, pid;
    if (usec_text == NULL)
        return 0;
    if (!parse(usec_text, &usec) || usec == 0 || (pid_text != NULL && !parse(pid_text, &pid))) {
        log_warning("WATCHDOG_USEC or WATCHDOG_PID is no number, the watchdog is not pinged");
        return 0;
    }
    if (pid_text != NULL && pid != (uint64_t)getpid())
        return 0; /* inherited: it is meant for another process */
    return MAX(usec / 2000, 1U);
}

void sd_notify_init(struct sd_notify *sd_notify)
{
    *sd_notify = (struct sd_notify){.wanted = notify_wanted()};
    if (sd_notify->wanted)
        sd_notify->watchdog_ms = read_watchdog();
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    /* One that is lost is no harm: there are two in each interval. */
    int r = notify_send("WATCHDOG=1");
    if (r < 0)
        log_debug("cannot ping the watchdog: %s", strerror(-r));
}

void sd_notify_start(struct sd_notify *sd_notify, uv_loop_t *loop)
{
    if (sd_notify->watchdog_ms == 0)
        return;
    CHECK(uv_timer_init(loop, &sd_notify->watchdog) == 0);
    CHECK(uv_timer_start(&sd_notify->watchdog, on_watchdog, 0, sd_notify->watchdog_ms) == 0);
    sd_notify->pinging = true;
}

void sd_notify_close(struct sd_notify *sd_notify)
{
    if (sd_notify->pinging)
        uv_close((uv_handle_t *)&sd_notify->watchdog, NULL);
    sd_notify->pinging = false;
}

/* Tells the manager. what: for the log, where that fails. */
static void tell(const struct sd_notify *sd_notify, const char *what, const char *message)
{
    const struct timespec pause = {.tv_nsec = TRY_MS * 1000000L};
    if (!sd_notify->wanted)
        return;
    int r = notify_send("%s", message);
    for (int i = 1; i < TRIES && r == -EAGAIN; i++) {
        nanosleep(&pause, NULL);
        r = notify_send("%s", message);
    }
    if (r < 0)
        log_warning("cannot tell the service manager (NOTIFY_SOCKET) of %s: %s; going on without",
            what, strerror(-r));
}

void sd_notify_ready(const struct sd_notify *sd_notify)
{
    tell(sd_notify, "being ready", "READY=1");
}

void sd_notify_reloading(const struct sd_notify *sd_notify)
{
    /* systemd holds the time against its own of the signal: READY of an earlier reload is none. */
    char message[80];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(message, sizeof(message), "RELOADING=1\nMONOTONIC_USEC=%llu",
        (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    tell(sd_notify, "a reload", message);
}

void sd_notify_stopping(const struct sd_notify *sd_notify, uint64_t within)
{
    char message[80];
    snprintf(message, sizeof(message), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
        (unsigned long long)within * 1000);
    tell(sd_notify, "stopping", message);
}

void sd_notify_status(const struct sd_notify *sd_notify, const char *format, ...)
{
    char text[STATUS_MAX + 1];
    va_list args;
    if (!sd_notify->wanted)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* Behind a line break would stand another message. */
    for (char *p = text; *p != '\0'; p++) {
        if (iscntrl((unsigned char)*p))
            *p = ' ';
    }
    int r = notify_send("STATUS=%s", text);
    if (r < 0)
        log_debug("cannot tell the service manager the status: %s", strerror(-r));
}
