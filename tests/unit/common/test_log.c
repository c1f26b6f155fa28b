#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

enum { LINE_MAX_BYTES = 8192 };

static int reader = -1;

/* Standard error becomes a pipe. */
static void set_up(void)
{
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    cr_assert_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    close(fds[1]);
    reader = fds[0];
    signal(SIGPIPE, SIG_IGN);
}

TestSuite(log, .init = set_up);

static size_t read_all(char *out)
{
    ssize_t n = read(reader, out, LINE_MAX_BYTES - 1);
    if (n < 0)
        n = 0;
    out[n] = '\0';
    return (size_t)n;
}

/* One line, and where its message begins. */
static const char *read_line(char *out)
{
    size_t n = read_all(out);
    cr_assert_gt(n, (size_t)0);
    cr_assert_eq(strchr(out, '\n'), out + n - 1, "not one line: %s", out);
    out[n - 1] = '\0';
    const char *message = strstr(out, "]: ");
    return message == NULL ? out : message + 3;
}

Test(log, text)
{
    char line[LINE_MAX_BYTES];
    log_init(LOG_INFO, LOG_TEXT, "shard 3");
    log_info("listening on %s:%d", "::", 80);
    cr_assert_str_eq(read_line(line), "listening on :::80");
    cr_assert_not_null(strstr(line, " info shard 3["));
    int year;
    char rest;
    cr_assert_eq(sscanf(line, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3d%c", &year, &rest), 2);
    cr_assert_eq(rest, 'Z');
}

Test(log, levels)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[LINE_MAX_BYTES];
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        cr_assert_eq(log_level_parse(names[level]), level);
        log_init((enum log_level)level, LOG_TEXT, "x");
        for (int of = LOG_ERROR; of <= LOG_DEBUG; of++) {
            log_write((enum log_level)of, "m");
            size_t n = read_all(line);
            cr_assert_eq(n > 0, of <= level);
            cr_assert(n == 0 || strstr(line, names[of]) != NULL);
        }
    }
    cr_assert_eq(log_level_parse("Info"), -1);
    cr_assert_eq(log_level_parse(""), -1);
}

Test(log, one_event_is_one_line_whatever_is_in_it)
{
    char line[LINE_MAX_BYTES];
    char bytes[256];
    for (size_t i = 0; i < 255; i++)
        bytes[i] = (char)(i + 1);
    bytes[255] = '\0';
    log_init(LOG_INFO, LOG_TEXT, "x");
    log_info("%s", bytes);
    const char *message = read_line(line);
    for (const char *p = message; *p != '\0'; p++)
        cr_assert(*p >= 0x20 && *p < 0x7f);
    cr_assert_not_null(strstr(message, "\\x0a"));
    log_info("a\nb\x1b[31m");
    cr_assert_str_eq(read_line(line), "a\\x0ab\\x1b[31m");
}

/* The message of a JSON line; the caller puts the object. */
static const char *json_message(const char *line, json_object **ret_object)
{
    json_object *member;
    *ret_object = json_tokener_parse(line);
    cr_assert(json_object_is_type(*ret_object, json_type_object), "%s", line);
    cr_assert(json_object_object_get_ex(*ret_object, "pid", &member));
    cr_assert_eq(json_object_get_int(member), getpid());
    cr_assert(json_object_object_get_ex(*ret_object, "time", &member));
    cr_assert(json_object_object_get_ex(*ret_object, "who", &member));
    cr_assert_str_eq(json_object_get_string(member), "a \"b\"");
    cr_assert(json_object_object_get_ex(*ret_object, "level", &member));
    cr_assert_str_eq(json_object_get_string(member), "warning");
    cr_assert(json_object_object_get_ex(*ret_object, "message", &member));
    return json_object_get_string(member);
}

Test(log, json)
{
    static const char *const messages[] = {
        "plain", "say \"it\" \\ / \n\t\r\b\f\x01 \x7f", "100%", "", "{\"a\":1}"};
    char line[LINE_MAX_BYTES];
    log_init(LOG_INFO, LOG_JSON, "a \"b\"");
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        json_object *object;
        log_warning("%s", messages[i]);
        size_t n = read_all(line);
        cr_assert_eq(strchr(line, '\n'), line + n - 1);
        cr_assert_str_eq(json_message(line, &object), messages[i]);
        json_object_put(object);
    }
}

Test(log, a_long_message_is_cut_and_whole_in_a_pipe)
{
    static char text[100000];
    char line[LINE_MAX_BYTES];
    log_init(LOG_INFO, LOG_JSON, "a \"b\"");
    memset(text, '\x01', sizeof(text) - 1);
    log_warning("%s", text);
    size_t n = read_all(line);
    cr_assert_gt(n, (size_t)600);
    cr_assert_leq(n, (size_t)4096, "PIPE_BUF");
    json_object *object;
    cr_assert_eq(strspn(json_message(line, &object), "\x01"), (size_t)599);
    json_object_put(object);
}

Test(log, a_full_pipe_loses_lines_and_says_so)
{
    char line[LINE_MAX_BYTES];
    static char text[500];
    memset(text, 'x', sizeof(text) - 1);
    log_init(LOG_INFO, LOG_TEXT, "x");
    for (int i = 0; i < 1000; i++)
        log_text(LOG_INFO, "", (struct span){text, 500}); /* returns, full or not */
    size_t lines = 0;
    size_t n;
    while ((n = read_all(line)) > 0) {
        for (size_t i = 0; i < n; i++)
            lines += line[i] == '\n';
    }
    cr_assert(lines > 10 && lines < 1000);
    log_info("after");
    read_all(line);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "%zu log lines were lost", 1000 - lines);
    cr_assert_not_null(strstr(line, wanted), "%s", line);
    cr_assert_not_null(strstr(line, "]: after\n"), "%s", line);
    log_info("once");
    cr_assert_str_eq(read_line(line), "once");
}

/* Standard error, and what is read of it, over what others share with us. */

/* It becomes `fd`; the flags of its description are shared with every process that has it. */
static int share_standard_error(int fd)
{
    cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    return fd;
}

static bool is_blocking(int fd)
{
    return !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* A pipe that blocks, as a shell makes it. Returns the end that writes, which others have too. */
static int blocking_pipe(int *ret_reader)
{
    int fds[2];
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    *ret_reader = fds[0];
    return share_standard_error(fds[1]);
}

static void fill(int fd)
{
    static char bytes[4096];
    int flags = fcntl(fd, F_GETFL);
    memset(bytes, 'f', sizeof(bytes));
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    for (size_t n = sizeof(bytes); n > 0; n /= 2) {
        while (write(fd, bytes, n) > 0)
            ;
    }
    fcntl(fd, F_SETFL, flags);
}

Test(log, a_pipe_that_others_share_is_opened_anew)
{
    int read_end;
    int shared = blocking_pipe(&read_end);
    log_init(LOG_INFO, LOG_TEXT, "x");
    cr_assert(is_blocking(shared), "their flags are theirs");
    cr_assert(!is_blocking(STDERR_FILENO), "ours are ours");
    cr_assert_eq(fcntl(STDERR_FILENO, F_GETFD), 0, "those who are started inherit it");
    fill(shared);
    log_info("lost");
    log_init(LOG_INFO, LOG_TEXT, "y"); /* again, as at a reload */
    log_info("lost");
    cr_assert(is_blocking(shared) && !is_blocking(STDERR_FILENO));
}

/* Where it cannot be opened anew, each write says that it is not to wait. */
Test(log, a_pipe_that_is_left_as_it_is)
{
    int read_end;
    int shared = blocking_pipe(&read_end);
    char text[LINE_MAX_BYTES];
    log_error("before it is known who we are");
    cr_assert_gt(read(read_end, text, sizeof(text)), 0);
    cr_assert(is_blocking(STDERR_FILENO));
    fill(shared);
    log_error("lost");
}

/* Others fill it at any moment, also between a look and a write; the other end is read now and
 * then. */
static void race(bool own)
{
    static char bytes[4096];
    int read_end;
    int shared = blocking_pipe(&read_end);
    if (own)
        log_init(LOG_INFO, LOG_TEXT, "x");
    pid_t filler = fork();
    cr_assert_geq(filler, 0);
    if (filler == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(read_end);
        while (write(shared, bytes, 1 + (size_t)rand() % sizeof(bytes)) > 0)
            ;
        _exit(0);
    }
    fill(shared);
    for (int i = 0; i < 4000; i++) {
        log_text(LOG_ERROR, "", (struct span){bytes, 600});
        if (i % 4 == 0)
            cr_assert_gt(read(read_end, bytes, sizeof(bytes)), 0);
    }
    for (int i = 0; i < 1000; i++)
        log_text(LOG_ERROR, "", (struct span){bytes, 600}); /* the other end is not read any more */
    kill(filler, SIGKILL);
    waitpid(filler, NULL, 0);
}

Test(log, a_pipe_that_others_fill)
{
    race(true);
}

Test(log, a_pipe_that_others_fill_left_as_it_is)
{
    race(false);
}

Test(log, a_socket)
{
    char text[LINE_MAX_BYTES];
    static char long_text[600];
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    int shared = share_standard_error(pair[1]);
    log_init(LOG_INFO, LOG_TEXT, "x");
    cr_assert(is_blocking(shared));
    log_info("one");
    ssize_t n = read(pair[0], text, sizeof(text));
    cr_assert(n > 5 && memcmp(text + n - 5, " one\n", 5) == 0);
    for (int i = 0; i < 3000; i++)
        log_text(LOG_INFO, "", (struct span){long_text, sizeof(long_text)});
    cr_assert_eq(read(pair[0], text, sizeof(text)), (ssize_t)sizeof(text));
    close(pair[0]);
    signal(SIGPIPE, SIG_DFL);
    log_text(LOG_INFO, "", SPAN("to nobody"));
}

/* A terminal takes a part of a line: what comes later begins a line of its own. */
Test(log, a_terminal)
{
    static char text[300];
    static char all[1 << 20];
    memset(text, 'x', sizeof(text));
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    cr_assert_geq(master, 0);
    cr_assert_eq(grantpt(master), 0);
    cr_assert_eq(unlockpt(master), 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    cr_assert_geq(terminal, 0);
    int shared = share_standard_error(terminal);
    log_init(LOG_INFO, LOG_TEXT, "x");
    cr_assert(is_blocking(shared) && !is_blocking(STDERR_FILENO));
    size_t n = 0;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 2000; i++)
            log_text(LOG_INFO, "", (struct span){text, sizeof(text)});
        struct pollfd pfd = {.fd = master, .events = POLLIN};
        ssize_t got;
        while (poll(&pfd, 1, 100) == 1 && (got = read(master, all + n, sizeof(all) - 1 - n)) > 0)
            n += (size_t)got;
    }
    all[n] = '\0';
    size_t lines = 0;
    for (char *line = strtok(all, "\r\n"); line != NULL; line = strtok(NULL, "\r\n"), lines++)
        cr_assert(line[4] == '-' && line[10] == 'T' && strlen(line) < 400, "%s", line);
    cr_assert_gt(lines, 10);
}

/* How often */

Test(log, a_rate)
{
    struct log_rate rate = {0};
    for (uint64_t now = 0; now < 5; now++) { /* three at once */
        cr_assert_eq(log_rate_pass(&rate, now, 100, 3), now < 3);
        cr_assert_eq(rate.skipped, now < 3 ? 0 : now - 2);
    }
    cr_assert(!log_rate_pass(&rate, 99, 100, 3), "one every 100 ms");
    cr_assert(log_rate_pass(&rate, 100, 100, 3));
    cr_assert(!log_rate_pass(&rate, 199, 100, 3));
    cr_assert(log_rate_pass(&rate, 200, 100, 3));
    for (unsigned i = 0; i < 4; i++) /* after a while, three at once again */
        cr_assert_eq(log_rate_pass(&rate, 10000, 100, 3), i < 3);
}

/* Reads what there is; returns how many lines have that text. */
static unsigned count_lines(const char *words)
{
    static char text[1 << 17];
    size_t n = 0;
    ssize_t got;
    while ((got = read(reader, text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
        lines++;
    return lines;
}

static void wait_ms(uint64_t ms)
{
    uint64_t until = log_clock() + ms;
    while (log_clock() < until)
        poll(NULL, 0, 1);
}

/* So many lines of one kind, which is one format, at once; a process that was held up has more. */
#define AT_ONCE(count, ...)                                                                        \
    do {                                                                                           \
        uint64_t begun = log_clock();                                                              \
        for (unsigned i = 0; i < (count); i++)                                                     \
            log_info(__VA_ARGS__);                                                                 \
        unsigned more = (unsigned)(log_clock() - begun) * LOG_RATE / 1000;                         \
        unsigned lines = count_lines("of a kind");                                                 \
        cr_assert(lines >= LOG_BURST && lines <= LOG_BURST + more, "%u lines", lines);             \
    } while (0)

Test(log, so_many_of_one_kind_in_text)
{
    log_init(LOG_INFO, LOG_TEXT, "x");
    AT_ONCE(LOG_BURST, "number %u of a kind: at the limit", i);
    AT_ONCE(LOG_BURST + 1, "number %u of a kind: one more", i);
    for (unsigned i = 0; i < 30; i++)
        log_warning("another kind");
    cr_assert_eq(count_lines("another kind"), 30, "it has its own");
    wait_ms(1100);
    log_info("later");
    cr_assert_eq(count_lines("]: 1 more lines were left out of the kind: number %u of a kind"), 1);
    log_info("later");
    cr_assert_eq(count_lines("left out"), 0, "it is said once");
}

Test(log, so_many_of_one_kind_in_json)
{
    log_init(LOG_INFO, LOG_JSON, "x");
    AT_ONCE(LOG_BURST, "number %u of a kind: at the limit", i);
    AT_ONCE(LOG_BURST + 2, "number %u of a \"kind\", which is of a kind: two more", i);
    wait_ms(1100);
    log_info("later");
    cr_assert_eq(count_lines("\"message\":\"2 more lines were left out of the kind: number %u of a "
                             "\\\"kind\\\", which"),
        1);
}

Test(log, another_bound)
{
    log_init(LOG_INFO, LOG_TEXT, "x");
    log_set_bound(200, 100);
    for (unsigned i = 0; i < 200; i++)
        log_info("a kind");
    cr_assert_eq(count_lines("a kind"), 200);
}

/* A line that is let through says how many were not. */
Test(log, and_more_like_it)
{
    log_init(LOG_INFO, LOG_TEXT, "x");
    unsigned most = 1000;
    for (unsigned i = 0; i < most; i++)
        log_info("a kind");
    unsigned lines = count_lines("a kind");
    cr_assert(lines >= LOG_BURST && lines < most);
    wait_ms(2 * 1000 / LOG_RATE);
    log_info("a kind");
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "a kind (and %u more like it since", most - lines);
    cr_assert_eq(count_lines(wanted), 1, "%s", wanted);
}

Test(log, one_line_of_many_in_ten_seconds)
{
    char line[LINE_MAX_BYTES];
    struct log_limit limit = {0};
    struct log_limit other = {0};
    log_init(LOG_INFO, LOG_TEXT, "x");
    log_limited(&limit, 5, LOG_WARNING, "number %d", 1);
    cr_assert_str_eq(read_line(line), "number 1");
    for (uint64_t now = 5; now < 5 + LOG_LIMIT_MS; now += 1000)
        log_limited(&limit, now, LOG_WARNING, "number %d", 2);
    cr_assert_eq(read_all(line), (size_t)0);
    log_limited(&other, 6, LOG_WARNING, "another");
    cr_assert_str_eq(read_line(line), "another");
    log_limited(&limit, 5 + LOG_LIMIT_MS, LOG_WARNING, "number %d", 3);
    cr_assert_str_eq(read_line(line), "number 3 (and 10 more like it since the last line)");
    log_limited(&limit, 5 + 2 * LOG_LIMIT_MS, LOG_WARNING, "number %d", 4);
    cr_assert_str_eq(read_line(line), "number 4");
}

Test(log, a_closed_pipe_is_survived)
{
    close(reader);
    log_init(LOG_INFO, LOG_TEXT, "x");
    errno = 4711;
    log_info("nobody reads this");
    cr_assert_eq(errno, 4711, "logging between a failure and its report");
}

/* What another program wrote: any bytes, as many as a line has room for. */
Test(log, text_of_others)
{
    char line[LINE_MAX_BYTES];
    static char text[6000];
    memset(text, 'a', sizeof(text));
    for (int json = 0; json < 2; json++) {
        log_init(LOG_INFO, json ? LOG_JSON : LOG_TEXT, "x");
        cr_assert_eq(log_text(LOG_INFO, "p\n: ", (struct span){"a\0\n\"\x1b\xff", 6}), 6u);
        read_line(line);
        cr_assert_not_null(strstr(line, json ? "p\\u000a: a\\u0000\\u000a\\\"\\u001b\\u00ff\"}"
                                             : "p\\x0a: a\\x00\\x0a\"\\x1b\\xff"));
        cr_assert_eq(log_text(LOG_INFO, "", (struct span){NULL, 0}), 0u);
        read_line(line);
        cr_assert_eq(log_text(LOG_DEBUG, "", SPAN("hidden")), 6u);
        cr_assert_eq(read_all(line), 0u);
        size_t used = log_text(LOG_INFO, "p: ", (struct span){text, sizeof(text)});
        cr_assert(used > 3500 && used < 4096, "%zu", used);
        read_line(line);
        cr_assert_lt(strlen(line), 4096u);
        memset(text, 0x7f, sizeof(text));
        used = log_text(LOG_INFO, "p: ", (struct span){text, sizeof(text)});
        cr_assert(used >= 512 && used < 1100, "%zu", used);
        read_line(line);
        memset(text, 'a', sizeof(text));
        if (json) {
            struct json_object *object = json_tokener_parse(line);
            cr_assert_not_null(object);
            json_object_put(object);
        }
    }
}

/* What a limit has kept back is told once, though no other line comes. */
Test(log, limits_that_are_flushed)
{
    char line[LINE_MAX_BYTES];
    struct log_limit limit = {0};
    log_init(LOG_INFO, LOG_TEXT, "t");
    log_limit_flush(&limit, 1, LOG_WARNING, "of a kind");
    cr_assert_eq(read_all(line), 0u, "there was none");
    for (int i = 0; i < 4; i++)
        log_limited(&limit, 5, LOG_WARNING, "number %d", i);
    cr_assert_str_eq(read_line(line), "number 0");
    log_limit_flush(&limit, 5 + LOG_LIMIT_MS - 1, LOG_WARNING, "of a kind");
    cr_assert_eq(read_all(line), 0u, "not yet");
    log_limit_flush(&limit, 5 + LOG_LIMIT_MS, LOG_WARNING, "of a kind");
    cr_assert_str_eq(read_line(line), "3 more since the last line: of a kind");
    log_limit_flush(&limit, 5 + 3 * LOG_LIMIT_MS, LOG_WARNING, "of a kind");
    cr_assert_eq(read_all(line), 0u, "once");
}

/* Also where libuv has no name for it. */
Test(log, error_texts)
{
    cr_assert_str_eq(log_error_text(-ENOENT), "No such file or directory");
    cr_assert_str_eq(log_error_text(-ETOOMANYREFS), "Too many references: cannot splice");
    cr_assert_str_eq(log_error_text(-4095), "unknown error");
    cr_assert_str_eq(log_error_text(12345), "unknown error");
}
