#pragma once

/* What shards have answered to one question, each by itself, put together. */

#include "common/base.h"
#include "frontd/frontctl/frontctl.h"
#include "frontd/frontctl/link.h"

enum { GATHER_ROWS_MAX = 1000 /* that a shard is asked for */ };

/* Zeroed at first. Spans point into the answer. */
struct gather {
    struct span *rows; /* of all shards; gather_free() */
    size_t nrows;
    size_t room;
    size_t shards;   /* that have answered */
    uint64_t looked; /* sums of what they say */
    uint64_t matched;
    bool complete;      /* all of them have looked at everything */
    struct span silent; /* the array of the result */
};

/*
 * Reads a result of the supervisor: {"shards": […], "silent": […]}. What is missing is said on
 * standard error. Returns 0, or an exit code where no shard has answered, or one says that the
 * question is wrong.
 */
int gather_read(struct gather *gather, struct span result);
void gather_free(struct gather *gather);

/* qsort() of the rows. */
void gather_sort(struct gather *gather, int (*order)(const void *a, const void *b));

/* Begins the answer for programs, with all but its rows. */
void gather_begin_json(const struct gather *gather, struct json_writer *out);

/* Which rows are shown. */
struct gather_page {
    long limit;
    long offset;
};

/*
 * Reads the values of --limit and --offset, NULL where they are not given. Returns -1, or an exit
 * code.
 */
int gather_read_page(const struct command *command, const char *limit, const char *offset,
    struct gather_page *ret_page);

/*
 * A time as "90", "90s", "5m", "2h" or "3d", in seconds; a size as "4096", "64k", "1M" or "1G", in
 * bytes. Returns whether it is one.
 */
bool gather_time(const char *text, uint64_t *ret_seconds);
bool gather_size(const char *text, uint64_t *ret_bytes);
