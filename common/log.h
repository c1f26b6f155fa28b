#pragma once

/*
 * Log lines to standard error: one event is one line, whatever bytes are in it. A line that cannot
 * be written at once (a full disk, a blocked pipe) is dropped and counted; the next one that can be
 * written says how many were lost. No write waits.
 *
 * Of one kind, which is one format, only so many lines are written in a second; the next one says
 * how many there were besides. So whatever a peer makes happen, and however often, the log is
 * bounded, and a line of another kind is not lost for it.
 *
 * Where standard error is the stream that the service manager has connected with its journal
 * (JOURNAL_STREAM), each line begins with its priority, "<4>" (sd-daemon(3)), which the journal
 * takes off.
 */

#include "common/base.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/*
 * who: which process this is ("supervisor", "shard 3"); copied.
 *
 * Where standard error is a pipe or a terminal, descriptor 2 becomes one of our own that does not
 * block, if it can be opened anew: the flags of the one that was inherited, which others share,
 * stay as they are. Processes that are started later inherit it.
 */
void log_init(enum log_level level, enum log_format format, const char *who);

/*
 * What went wrong, for a log: -errno, as functions return it. Never NULL; static. (uv_strerror() of
 * a number that libuv does not know leaks a text, as ETOOMANYREFS when descriptors are passed on.)
 */
const char *log_error_text(int error);

/* What a text that is written to standard error by itself begins with: "<3>" for the journal, or
 * nothing. */
const char *log_priority(enum log_level level);

/* A line says who, what happened, and what happens now. */
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lines of one format: at once, and then in a second, unless log_set_bound() says something else.
 */
enum { LOG_BURST = 50, LOG_RATE = 10 };

/* For a process whose lines are not made by peers. burst: over 0. rate: 1 to 1000 a second. */
void log_set_bound(unsigned burst, unsigned rate);

/* How fast something may come: `burst` at once, then one each `interval` ms. Zeroed at first. */
struct log_rate {
    uint64_t used_until; /* ms */
    uint64_t skipped;    /* since the last that was let through; whoever says so sets it to 0 */
};

/* Whether one more may come. now: ms of a clock that does not go back, such as log_clock(). */
bool log_rate_pass(struct log_rate *rate, uint64_t now, unsigned interval, unsigned burst);

/* Milliseconds of the monotonic clock. */
uint64_t log_clock(void);

/* For what a peer can make happen any number of times: at most one line in LOG_LIMIT_MS. */
enum { LOG_LIMIT_MS = 10000 };

struct log_limit {
    uint64_t again_at; /* ms: not before; 0: never written */
    uint64_t skipped;  /* lines since the last one */
};

/*
 * log_write() unless the last line of this limit is too recent; else the next one says how many
 * there were. now: ms of any clock that does not go back.
 */
void log_limited(struct log_limit *limit, uint64_t now, enum log_level level, const char *format,
    ...) __attribute__((format(printf, 4, 5)));

/*
 * Says how many lines a limit has kept back, once the next one may be written: for when no other
 * comes. text: of their kind. Nothing where there are none.
 */
void log_limit_flush(struct log_limit *limit, uint64_t now, enum log_level level, const char *text);

/*
 * Text that another program wrote, whatever bytes are in it: the line has prefix (at most 128
 * bytes) and text. How many there are is up to the caller. Returns how many bytes of the text it
 * has room for, at least 400 if there are so many; the rest is up to the caller.
 */
size_t log_text(enum log_level level, const char *prefix, struct span text);

#define log_error(...)   log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_DEBUG, __VA_ARGS__)

/* "error", …; -1 for a name that is none. */
int log_level_parse(const char *name);
