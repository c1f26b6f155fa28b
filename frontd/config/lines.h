#pragma once

/*
 * The line of each key of a YAML text, for messages about its value; and what is wrong with the
 * text as YAML.
 */

#include "common/base.h"

struct conf_line {
    char *path; /* "listeners[0].routes[1].timeout" */
    unsigned line;
};

struct conf_lines {
    struct conf_line *lines;
    size_t count;
    const char *problem; /* static text; NULL: all of it has been read */
    unsigned problem_line;
};

/* Reads a text up to its end or the first problem. */
void conf_lines_read(struct conf_lines *lines, const char *text, size_t n);
void conf_lines_deinit(struct conf_lines *lines);

/* The line of a path, or 0 where it is not in the text; twice: of its second place. */
unsigned conf_lines_find(const struct conf_lines *lines, const char *path, bool twice);

/* The line of a path, or of the nearest thing around it that is in the text; at least 1. */
unsigned conf_lines_near(const struct conf_lines *lines, const char *path);
