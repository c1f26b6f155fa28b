#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MESSAGE_MAX = 600, /* bytes; what is longer is cut */
    WHO_MAX = 32,
    /* A byte becomes at most 6 (\u00xx), and a line has some 128 bytes besides. It stays below
     * PIPE_BUF: after POLLOUT such a write does not block, and is whole in a shared pipe. */
    LINE_MAX_BYTES = (MESSAGE_MAX + WHO_MAX) * 6 + 256,
};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

static enum log_level log_level = LOG_INFO;
static enum log_format log_format = LOG_TEXT;
static char log_who[WHO_MAX] = "frontd";
static unsigned long log_lost;

void log_init(enum log_level level, enum log_format format, const char *who)
{
    log_level = level;
    log_format = format;
    snprintf(log_who, sizeof(log_who), "%s", who);
}

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0)
            return (int)i;
    }
    return -1;
}

/* Appends text with what would break a line or a JSON string escaped; returns the new length. */
static size_t put_escaped(char *line, size_t at, const char *text, bool json)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (json && (c == '"' || c == '\\')) {
            line[at++] = '\\';
            line[at++] = (char)c;
        } else if (c < 0x20 || c >= 0x7f) {
            at += (size_t)sprintf(line + at, json ? "\\u%04x" : "\\x%02x", c);
        } else {
            line[at++] = (char)c;
        }
    }
    return at;
}

/* Never blocks: a line for which there is no room now is lost. */
static bool write_line(const char *line, size_t n)
{
    struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT))
        return false;
    return write(STDERR_FILENO, line, n) == (ssize_t)n;
}

static void write_message(enum log_level level, const char *message)
{
    struct timespec now;
    struct tm tm;
    char when[40];
    char line[LINE_MAX_BYTES];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof(when) - n, ".%03ldZ", now.tv_nsec / 1000000);
    bool json = log_format == LOG_JSON;
    size_t at = (size_t)snprintf(line, sizeof(line),
        json ? "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"" : "%s %s ", when, level_names[level]);
    at = put_escaped(line, at, log_who, json);
    at += (size_t)snprintf(line + at, sizeof(line) - at,
        json ? "\",\"pid\":%ld,\"message\":\"" : "[%ld]: ", (long)getpid());
    at = put_escaped(line, at, message, json);
    if (json) {
        line[at++] = '"';
        line[at++] = '}';
    }
    line[at++] = '\n';
    if (!write_line(line, at))
        log_lost++;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level > log_level)
        return;
    int saved_errno = errno;
    char message[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (log_lost > 0) {
        unsigned long lost = log_lost;
        char note[96];
        log_lost = 0;
        snprintf(note, sizeof(note), "%lu log lines were lost: standard error was full", lost);
        write_message(LOG_WARNING, note);
        if (log_lost > 0)
            log_lost = lost; /* still full; the note itself does not count */
    }
    write_message(level, message);
    errno = saved_errno;
}

void log_limited(
    struct log_limit *limit, uint64_t now, enum log_level level, const char *format, ...)
{
    if (now < limit->again_at) {
        limit->skipped++;
        return;
    }
    char message[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (limit->skipped == 0)
        log_write(level, "%s", message);
    else
        log_write(level, "%s (and %llu more like it since the last line)", message,
            (unsigned long long)limit->skipped);
    *limit = (struct log_limit){.again_at = now + LOG_LIMIT_MS};
}
