#pragma once

/*
 * Log lines to standard error: one event is one line, whatever bytes are in it. A line that cannot
 * be written at once (a full disk, a blocked pipe) is dropped and counted; the next line that can
 * be written says how many were lost. No write waits.
 *
 * Lines of one format are limited to a number in each second; the next one says how many were left
 * out. So the log is bounded whatever peers make happen, and however often, and a line of another
 * format is not lost for it.
 *
 * Where standard error is the stream that the service manager has connected with its journal
 * (JOURNAL_STREAM), each line begins with its priority, "<4>" (sd-daemon(3)), which the journal
 * takes off.
 */

#include <sys/types.h>

#include "common/base.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/*
 * who: the name of this process in its lines ("supervisor", "shard 3"); copied.
 *
 * Where standard error is a pipe or a terminal, it is opened anew, non-blocking, as descriptor 2,
 * if that is possible. So the flags of the inherited descriptor, which other processes share, stay
 * as they are. Processes that are started later inherit the new descriptor.
 */
void log_init(enum log_level level, enum log_format format, const char *who);

/* Sets the level anew; the rest stays as log_init() has set it. */
void log_set_level(enum log_level level);

/*
 * The text of an error for a log: -errno, as functions return it. Never NULL; static.
 * (uv_strerror() of a number that libuv does not know leaks a text: ETOOMANYREFS, when descriptors
 * are passed on.)
 */
const char *log_error_text(int error);

/*
 * The beginning of a text that is written to standard error without log_write(): "<3>" for the
 * journal, or "".
 */
const char *log_priority(enum log_level level);

/* Writes a line. It says which thing, what happened, and what happens now. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Bounds of the lines of one format, unless log_set_bound() sets others: so many at once, and then
 * in each second.
 */
enum { LOG_BURST = 50, LOG_RATE = 10 };

/*
 * Sets the bounds, for a process that writes lines of its own making only, not of peers'. burst:
 * over 0. rate: 1 to 1000 a second.
 */
void log_set_bound(unsigned burst, unsigned rate);

/*
 * Limits how often an event passes: `burst` at once, then one each `interval` ms. Zeroed at first.
 */
struct log_rate {
    uint64_t used_until; /* ms */
    uint64_t
        skipped; /* events that did not pass; set to 0 by the caller when they have been logged */
};

/* Whether one more event passes. now: ms of a clock that does not go back, such as log_clock(). */
bool log_rate_pass(struct log_rate *rate, uint64_t now, unsigned interval, unsigned burst);

/* Milliseconds of the monotonic clock. */
uint64_t log_clock(void);

/* How many lines this process has left out so far: there were too many, or no room. */
uint64_t log_dropped(void);

/*
 * A limit for events that a peer can cause any number of times: at most one line in LOG_LIMIT_MS.
 */
enum { LOG_LIMIT_MS = 10000 };

struct log_limit {
    uint64_t again_at; /* ms: not before; 0: never written */
    uint64_t skipped;  /* lines since the last one */
};

/*
 * log_write(), unless the last line of this limit is too recent; then the next line says how many
 * were left out. now: ms of any clock that does not go back.
 */
void log_limited(struct log_limit *limit, uint64_t now, enum log_level level, const char *format,
    ...) __attribute__((format(printf, 4, 5)));

/*
 * Writes how many lines a limit has left out, as soon as a line may be written again: for when no
 * other line comes. text: what the lines were about. Writes nothing where none was left out.
 */
void log_limit_flush(struct log_limit *limit, uint64_t now, enum log_level level, const char *text);

/*
 * Writes text of another program, whatever bytes are in it: the line has prefix (at most 128
 * bytes) and text. Not limited: that is up to the caller. Returns how many bytes of the text are
 * in the line, at least 400 if there are so many; the caller may write the rest as further lines.
 */
size_t log_text(enum log_level level, const char *prefix, struct span text);

/*
 * Writes bytes to standard error as they are, without waiting: lines of another log that goes there
 * too. Returns how many were taken, or -1: none for now.
 */
ssize_t log_raw(const char *bytes, size_t n);

#define log_error(...)   log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, __VA_ARGS__)

/* The level of a name, "error" and so on; -1 for any other text. */
int log_level_parse(const char *name);
