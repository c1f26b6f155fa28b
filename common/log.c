#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    MESSAGE_MAX = 600, /* bytes; a longer message is cut */
    WHO_MAX = 32,
    /* A byte becomes at most 6 (\u00xx), and a line has some 128 bytes besides. It stays below
     * PIPE_BUF: such a write is whole in a shared pipe, or not at all. */
    LINE_MAX_BYTES = (MESSAGE_MAX + WHO_MAX) * 6 + 256,
    KINDS_MAX = 256, /* formats that are counted at a time: more than the program has */
    TELL_MS =
        1000, /* after the last line of a format, until the number of those left out is logged */
    MS_A_SECOND = 1000,
};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

static enum log_level log_level = LOG_INFO;
static enum log_format log_format = LOG_TEXT;
static char log_who[WHO_MAX] = "frontd";
static unsigned log_burst = LOG_BURST;
static unsigned log_interval = 1000 / LOG_RATE; /* ms */
static unsigned long log_lost;
static uint64_t log_left_out; /* lines, ever */
static bool
    log_cut; /* the last line was written in part only: the next one begins with a newline */

/* What standard error is, and so how it is written to without waiting. */
static enum sink {
    SINK_UNKNOWN,
    SINK_NONBLOCKING, /* a pipe or terminal */
    SINK_PIPE,        /* without the flag: it belongs to the processes that share the pipe */
    SINK_SOCKET,
    SINK_OTHER, /* a file; /dev/null */
} log_sink;

/* Another description of the same pipe or terminal, which does not block, becomes descriptor 2. */
static bool reopen(void)
{
    static bool done;
    if (done)
        return true;
    int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    done = fd >= 0 && dup2(fd, STDERR_FILENO) == STDERR_FILENO;
    if (fd >= 0)
        close(fd);
    return done;
}

static enum sink find_sink(bool may_reopen)
{
    struct stat st;
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    if (flags < 0 || fstat(STDERR_FILENO, &st) < 0)
        return SINK_OTHER;
    if (S_ISSOCK(st.st_mode))
        return SINK_SOCKET;
    if (!S_ISFIFO(st.st_mode) && !(S_ISCHR(st.st_mode) && isatty(STDERR_FILENO)))
        return SINK_OTHER;
    /* Even where the flag is set: the process that set it may take it away again. */
    if ((may_reopen && reopen()) || flags & O_NONBLOCK)
        return SINK_NONBLOCKING;
    return S_ISFIFO(st.st_mode) ? SINK_PIPE : SINK_OTHER;
}

/* As journald numbers the levels. */
static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};
static bool log_journal;

/* Whether standard error goes to the journal: the variable has its device and inode, since it may
 * be there without that (sd_journal_stream_fd(3), systemd.exec(5)). */
static bool find_journal(void)
{
    const char *text = getenv("JOURNAL_STREAM");
    struct stat st;
    char *end;
    if (text == NULL || fstat(STDERR_FILENO, &st) < 0)
        return false;
    errno = 0;
    unsigned long long dev = strtoull(text, &end, 10);
    if (end == text || *end != ':')
        return false;
    const char *second = end + 1;
    unsigned long long ino = strtoull(second, &end, 10);
    return errno == 0 && end != second && *end == '\0' && dev == st.st_dev && ino == st.st_ino;
}

const char *log_error_text(int error)
{
    const char *text = strerrordesc_np(-error);
    return text == NULL ? "unknown error" : text;
}

const char *log_priority(enum log_level level)
{
    return find_journal() ? priorities[level] : "";
}

void log_init(enum log_level level, enum log_format format, const char *who)
{
    int saved_errno = errno;
    log_journal = find_journal(); /* before descriptor 2 may be replaced */
    log_sink = find_sink(true);
    errno = saved_errno;
    log_level = level;
    log_format = format;
    snprintf(log_who, sizeof(log_who), "%s", who);
}

void log_set_level(enum log_level level)
{
    log_level = level;
}

void log_set_bound(unsigned burst, unsigned rate)
{
    log_burst = burst;
    log_interval = MS_A_SECOND / rate;
}

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0)
            return (int)i;
    }
    return -1;
}

uint64_t log_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MS_A_SECOND + (uint64_t)now.tv_nsec / 1000000;
}

bool log_rate_pass(struct log_rate *rate, uint64_t now, unsigned interval, unsigned burst)
{
    uint64_t from = MAX(rate->used_until, now);
    if (from - now > (uint64_t)interval * (burst - 1)) {
        rate->skipped++;
        return false;
    }
    rate->used_until = from + interval;
    return true;
}

/* A line while it is written. */
struct line {
    char newline; /* written first when the last line was cut */
    char text[LINE_MAX_BYTES];
    size_t n;
};
_Static_assert(offsetof(struct line, text) == 1, "they are written together");
_Static_assert(1 + LINE_MAX_BYTES <= PIPE_BUF, "a line in a pipe is whole");

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

/*
 * For a file; and where poll() is the only way to ask for room, which another process may fill in
 * between.
 */
static ssize_t write_if_ready(const char *bytes, size_t n)
{
    struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT))
        return -1;
    return write(STDERR_FILENO, bytes, n);
}

/* Returns how many bytes were written at once, or -1. */
static ssize_t write_now(const char *bytes, size_t n)
{
    struct iovec iov = {.iov_base = (char *)(uintptr_t)bytes, .iov_len = n};
    if (log_sink == SINK_UNKNOWN)
        log_sink = find_sink(false);
    switch (log_sink) {
    case SINK_NONBLOCKING: return write(STDERR_FILENO, bytes, n);
    case SINK_SOCKET: return send(STDERR_FILENO, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    case SINK_PIPE: {
        ssize_t written = pwritev2(STDERR_FILENO, &iov, 1, -1, RWF_NOWAIT);
        if (written >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
            return written;
        log_sink = SINK_OTHER; /* Linux before 6.4 */
        return write_if_ready(bytes, n);
    }
    default: return write_if_ready(bytes, n);
    }
}

/* Never blocks: a line for which there is no room now is lost. */
static bool write_line(struct line *line)
{
    bool cut = log_cut;
    line->newline = '\n';
    size_t n = line->n + cut;
    ssize_t written = write_now(cut ? &line->newline : line->text, n);
    if (written > 0)
        log_cut = (size_t)written < n;
    return written == (ssize_t)n;
}

ssize_t log_raw(const char *bytes, size_t n)
{
    int saved_errno = errno;
    ssize_t written = log_cut ? write_now("\n", 1) : 0;
    if (written > 0)
        log_cut = false;
    written = log_cut ? -1 : write_now(bytes, n);
    if (written > 0)
        log_cut = bytes[written - 1] != '\n';
    errno = saved_errno;
    return written;
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
    line.n = (size_t)snprintf(
        line.text, sizeof(line.text), "%s", log_journal ? priorities[level] : "");
    line.n += (size_t)snprintf(line.text + line.n, sizeof(line.text) - line.n,
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
    if (!write_line(&line)) {
        log_lost++;
        log_left_out++;
    }
    return used;
}

/* Writes that lines were lost, once there is room again. */
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

/* The lines of one format, in a hash table by the format's address. */
static struct kind {
    const char *format; /* NULL: free */
    uint64_t written;   /* ms: the last line */
    struct log_rate rate;
    enum log_level level;
} kinds[KINDS_MAX];
static unsigned log_silenced; /* formats with lines that were left out, which is not logged yet */

static struct kind *find_kind(const char *format)
{
    size_t home = (size_t)((uintptr_t)format * 0x9e3779b97f4a7c15ULL >> 40) % KINDS_MAX;
    for (size_t i = 0; i < KINDS_MAX; i++) {
        struct kind *kind = &kinds[(home + i) % KINDS_MAX];
        if (kind->format == NULL)
            kind->format = format;
        if (kind->format == format)
            return kind;
    }
    return &kinds[home]; /* the table is full: these two formats count together */
}

/* Writes for each format how many lines were left out, TELL_MS after its last line. */
static void tell_silenced(uint64_t now)
{
    for (size_t i = 0; log_silenced > 0 && i < KINDS_MAX; i++) {
        struct kind *kind = &kinds[i];
        char note[MESSAGE_MAX];
        if (kind->rate.skipped == 0 || now - kind->written < TELL_MS)
            continue;
        snprintf(note, sizeof(note), "%llu more lines were left out of the kind: %s",
            (unsigned long long)kind->rate.skipped, kind->format);
        kind->rate.skipped = 0;
        log_silenced--;
        write_message(kind->level, "", span_of(note));
    }
}

static void write_with_skipped(enum log_level level, const char *message, uint64_t skipped)
{
    char more[MESSAGE_MAX];
    tell_lost();
    if (skipped > 0) {
        char note[80];
        int n = snprintf(note, sizeof(note), " (and %llu more like it since the last line)",
            (unsigned long long)skipped);
        snprintf(more, sizeof(more), "%.*s%s", (int)sizeof(more) - 1 - n, message, note);
        message = more;
    }
    write_message(level, "", span_of(message));
}

uint64_t log_dropped(void)
{
    return log_left_out;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level > log_level)
        return;
    int saved_errno = errno;
    char message[MESSAGE_MAX];
    struct kind *kind = find_kind(format);
    uint64_t now = log_clock();
    uint64_t skipped = kind->rate.skipped;
    if (log_rate_pass(&kind->rate, now, log_interval, log_burst)) {
        va_list args;
        va_start(args, format);
        vsnprintf(message, sizeof(message), format, args);
        va_end(args);
        log_silenced -= skipped > 0;
        kind->rate.skipped = 0;
        kind->written = now;
        kind->level = level;
        write_with_skipped(level, message, skipped);
    } else {
        log_silenced += skipped == 0;
        log_left_out++;
    }
    tell_silenced(now);
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
    int saved_errno = errno;
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (level <= log_level)
        write_with_skipped(level, message, limit->skipped);
    *limit = (struct log_limit){.again_at = now + LOG_LIMIT_MS};
    errno = saved_errno;
}

void log_limit_flush(struct log_limit *limit, uint64_t now, enum log_level level, const char *text)
{
    if (limit->skipped == 0 || now < limit->again_at)
        return;
    char message[MESSAGE_MAX];
    int saved_errno = errno;
    snprintf(message, sizeof(message), "%llu more since the last line: %s",
        (unsigned long long)limit->skipped, text);
    if (level <= log_level)
        write_with_skipped(level, message, 0);
    *limit = (struct log_limit){.again_at = now + LOG_LIMIT_MS};
    errno = saved_errno;
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
