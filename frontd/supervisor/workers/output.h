#pragma once

/* What a worker writes to its standard output and error: each line becomes a line of our log. */

#include <uv.h>

#include "common/log.h"

enum {
    OUTPUT_LINE_MAX = 3072, /* bytes; what is longer becomes several lines of the log */
    OUTPUT_NAME_MAX = 96,
    OUTPUT_BURST = 10000, /* lines of the log at once; what is more is only counted */
    OUTPUT_RATE = 1000,   /* and then in a second */
};

/* Bytes on their way to become lines. Zeroed is empty, but for the name. */
struct output_lines {
    char name[OUTPUT_NAME_MAX]; /* "worker app/0 (pid 4711)" */
    uint32_t n;                 /* bytes of a line that has not ended yet */
    bool continued;             /* the line's beginning has been logged */
    struct log_rate rate;
    uint64_t told_at; /* ms: when it was last said how many lines were left out */
    char text[OUTPUT_LINE_MAX];
};

/* Logs the lines that end within these bytes and keeps the rest. */
void output_lines_feed(struct output_lines *lines, const char *bytes, size_t n);

/* Logs what is left of a line that was never ended. */
void output_lines_end(struct output_lines *lines);

struct output {
    uv_poll_t poll;
    int fd; /* of the pipe, non-blocking */
    struct output_lines lines;
};

/*
 * Reads a pipe until output_close(). fd: consumed, on failure too. name: copied.
 * Returns 0 with *ret_output, which is the loop's until it is closed; or -errno.
 */
int output_open(uv_loop_t *loop, int fd, const char *name, struct output **ret_output);

/* Logs what is in the pipe by now, closes it and forgets it. Accepts NULL. */
void output_close(struct output *output);
