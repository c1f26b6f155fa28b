#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
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
        log_info("%s", text); /* returns, full or not */
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
