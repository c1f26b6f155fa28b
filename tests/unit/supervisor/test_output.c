#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/supervisor/workers/output.h"

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
    log_init(LOG_INFO, LOG_TEXT, "x");
}

TestSuite(output, .init = set_up);

/* What has been logged: each message, with what stands before it cut off, and '|' after it. */
static void read_log(char *out, size_t size)
{
    static char text[65536];
    size_t n = 0;
    ssize_t got = read(reader, text, sizeof(text) - 1);
    text[MAX(got, 0)] = '\0';
    out[0] = '\0';
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const char *message = strstr(line, "]: ");
        cr_assert_not_null(message, "%s", line);
        n += (size_t)snprintf(out + n, size - n, "%s|", message + 3);
        cr_assert_lt(n, size);
    }
}

Test(output, lines)
{
    const struct {
        struct span bytes;
        const char *log;
        const char *end; /* what is logged when the rest is */
    } rows[] = {
        {SPAN(""), "", ""},
        {SPAN("a\n"), "w: a|", ""},
        {SPAN("a"), "", "w: a|"},
        {SPAN("\n"), "w: |", ""},
        {SPAN("a\n\nb\nc"), "w: a|w: |w: b|", "w: c|"},
        {SPAN("a\r\n"), "w: a\\x0d|", ""},
        {SPAN("\0\x1b[2J\x7f\xff%s%n\n"), "w: \\x00\\x1b[2J\\x7f\\xff%s%n|", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t split = 0; split <= rows[i].bytes.n; split++) {
            char log[1024];
            struct output_lines lines = {.name = "w"};
            output_lines_feed(&lines, rows[i].bytes.p, split);
            output_lines_feed(&lines, rows[i].bytes.p + split, rows[i].bytes.n - split);
            read_log(log, sizeof(log));
            cr_assert_str_eq(log, rows[i].log, "row %zu split at %zu", i, split);
            output_lines_end(&lines);
            read_log(log, sizeof(log));
            cr_assert_str_eq(log, rows[i].end, "row %zu split at %zu", i, split);
        }
    }
}

/* Whatever is written comes out, in as many lines of the log as it takes, marked. */
Test(output, long_lines)
{
    static const size_t lengths[] = {
        OUTPUT_LINE_MAX - 1, OUTPUT_LINE_MAX, OUTPUT_LINE_MAX + 1, 2 * OUTPUT_LINE_MAX, 10000};
    static char bytes[10001];
    static char log[65536];
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        for (int hostile = 0; hostile < 2; hostile++) {
            size_t n = lengths[i];
            struct output_lines lines = {.name = "w"};
            memset(bytes, hostile ? 1 : 'a', n);
            bytes[n] = '\n';
            output_lines_feed(&lines, bytes, n + 1);
            read_log(log, sizeof(log));
            cr_assert_eq(strncmp(log, "w: ", 3), 0);
            size_t letters = 0;
            size_t pieces = 0;
            for (const char *p = log; *p != '\0'; p++) {
                letters += hostile ? *p == '\\' : *p == 'a';
                pieces += *p == '|';
            }
            cr_assert_eq(letters, n);
            cr_assert_eq(pieces == 1, strstr(log, "|w, goes on: ") == NULL);
            if (!hostile)
                cr_assert_eq(pieces, (n + OUTPUT_LINE_MAX - 1) / OUTPUT_LINE_MAX);
            output_lines_feed(&lines, "b\n", 2);
            read_log(log, sizeof(log));
            cr_assert_str_eq(log, "w: b|");
        }
    }
}

/* Through a pipe: one that writes much does not keep the loop from turning; nothing is lost. */
Test(output, pipe)
{
    static char bytes[65536];
    char log[65536];
    uv_loop_t loop;
    struct output *output;
    int fds[2];
    cr_assert_eq(uv_loop_init(&loop), 0);
    cr_assert_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    cr_assert_eq(output_open(&loop, fds[0], "w", &output), 0);
    cr_assert_eq(write(fds[1], "a\nb", 3), 3);
    uv_run(&loop, UV_RUN_ONCE);
    read_log(log, sizeof(log));
    cr_assert_str_eq(log, "w: a|");
    memset(bytes, '\n', sizeof(bytes));
    ssize_t n = write(fds[1], bytes, 60000);
    cr_assert_eq(n, 60000);
    uv_run(&loop, UV_RUN_ONCE);
    char rest[65536];
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    cr_assert_gt(read(fds[0], rest, 1), 0, "one turn does not take all");
    read_log(log, sizeof(log));
    cr_assert_eq(write(fds[1], "end", 3), 3);
    output_close(output); /* the child that inherited the other end still has it */
    uv_run(&loop, UV_RUN_DEFAULT);
    cr_assert_eq(uv_loop_close(&loop), 0);
    cr_assert_lt(write(fds[1], "x", 1), 0, "the pipe is closed");
    output_close(NULL);
}

/* A worker that writes as fast as it can: so many lines a second, and how many were left out. */
Test(output, so_many)
{
    static char log[1 << 16];
    struct output_lines lines = {.name = "w"};
    uint64_t begun = log_clock();
    size_t written = 0, told = 0, left_out = 0;
    const unsigned all = OUTPUT_BURST + 3 * OUTPUT_RATE;
    for (unsigned i = 0; i <= all; i++) {
        if (i < all)
            output_lines_feed(&lines, "x\n", 2);
        else
            output_lines_end(&lines);
        read_log(log, sizeof(log));
        written += strstr(log, "w: x|") != NULL;
        size_t some;
        if (sscanf(log, "w: %zu lines were left out: it writes more than 1000 in a second|",
                &some) == 1) {
            left_out += some;
            told++;
        }
    }
    uint64_t took = log_clock() - begun;
    cr_assert(written >= OUTPUT_BURST && written <= OUTPUT_BURST + took + 1, "%zu", written);
    cr_assert_eq(written + left_out, all);
    cr_assert_leq(told, 2 + took / 1000);
    output_lines_end(&lines);
    read_log(log, sizeof(log));
    cr_assert_str_eq(log, "", "it is said once");
}
