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

/* A line while it is written. */
struct line {
    size_t n;
    char text[LINE_MAX_BYTES];
};

/*
 * Appends text with what would break a line or a JSON string escaped, as much as leaves room for
 * the line's end; returns how many bytes of the text that were.
 */
static size_t put_escaped(struct line *line, struct span text, bool json)
{
    static const size_t one_and_end = 6 + 4; /* \u00xx; "}, the newline, sprintf()'s NUL */
    size_t i;
    for (i = 0; i < text.n && line->n + one_and_end <= sizeof(line->text); i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (json && (c == '"' || c == '\\')) {
            line->text[line->n++] = '\\';
            line->text[line->n++] = (char)c;
        } else if (c < 0x20 || c >= 0x7f) {
            line->n += (size_t)sprintf(line->text + line->n, json ? "\\u%04x" : "\\x%02x", c);
        } else {
            line->text[line->n++] = (char)c;
        }
    }
    return i;
}

/* Never blocks: a line for which there is no room now is lost. */
static bool write_line(const char *line, size_t n)
{
    struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT))
        return false;
    return write(STDERR_FILENO, line, n) == (ssize_t)n;
}

static struct span span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

/* Returns how many bytes of the text the line has. */
static size_t write_message(enum log_level level, const char *prefix, struct span text)
{
    struct timespec now;
    struct tm tm;
    char when[40];
    struct line line;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof(when) - n, ".%03ldZ", now.tv_nsec / 1000000);
    bool json = log_format == LOG_JSON;
    line.n = (size_t)snprintf(line.text, sizeof(line.text),
        json ? "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"" : "%s %s ", when, level_names[level]);
    put_escaped(&line, span_of(log_who), json);
    line.n += (size_t)snprintf(line.text + line.n, sizeof(line.text) - line.n,
        json ? "\",\"pid\":%ld,\"message\":\"" : "[%ld]: ", (long)getpid());
    put_escaped(&line, span_of(prefix), json);
    size_t used = put_escaped(&line, text, json);
    if (json) {
        line.text[line.n++] = '"';
        line.text[line.n++] = '}';
    }
    line.text[line.n++] = '\n';
    if (!write_line(line.text, line.n))
        log_lost++;
    return used;
}

/* That lines were lost, once there is room again. */
static void tell_lost(void)
{
    unsigned long lost = log_lost;
    char note[96];
    if (lost == 0)
        return;
    log_lost = 0;
    snprintf(note, sizeof(note), "%lu log lines were lost: standard error was full", lost);
    write_message(LOG_WARNING, "", span_of(note));
    if (log_lost > 0)
        log_lost = lost; /* still full; the note itself does not count */
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
    tell_lost();
    write_message(level, "", span_of(message));
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

size_t log_text(enum log_level level, const char *prefix, struct span text)
{
    if (level > log_level)
        return text.n;
    int saved_errno = errno;
    tell_lost();
    size_t used = write_message(level, prefix, text);
    errno = saved_errno;
    return used;
}
