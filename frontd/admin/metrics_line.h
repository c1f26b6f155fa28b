#pragma once

/*
 * Lines of Prometheus' text format (version 0.0.4) and of OpenMetrics 1.0, which differ in the
 * names of families and in the end. Pure.
 */

#include "common/buf.h"

enum { METRICS_LABELS_MAX = 2048 /* bytes of the labels of a row, escaped, with a NUL */ };

/* Labels as they are written: `name="value",…`, NUL-terminated. Zeroed but for text and size. */
struct metrics_line {
    char *text;
    size_t size;
    size_t n;
};

/* Labels that begin with others. */
struct metrics_line metrics_line_from(char *text, size_t size, const char *labels);

/*
 * Adds a label. The value may be any bytes: what the formats escape is escaped, other control
 * characters become `\\x` and two digits, and what is not UTF-8 too. One for which there is no room
 * is left out.
 */
void metrics_line_label(struct metrics_line *line, const char *name, struct span value);

struct metrics_out {
    struct buf *out;
    bool openmetrics;
    struct span prefix; /* of names; n == 0: all are wanted */
    bool failed;        /* there was no memory */
};

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM, METRICS_INFO };

/* Whether a metric's name has the prefix. */
bool metrics_wanted(const struct metrics_out *out, const char *name);

/*
 * Begins a family: counters' names end in `_total`, those of METRICS_INFO in `_info`. Returns
 * whether it is wanted; where not, nothing is written, and no samples are to follow.
 */
bool metrics_family(
    struct metrics_out *out, enum metrics_type type, const char *name, const char *help);

/*
 * A sample. suffix: after the name. labels: "" for none. more: one label more, or NULL; `value`
 * needs no escapes.
 */
void metrics_sample(struct metrics_out *out, const char *name, const char *suffix,
    const char *labels, const char *more, const char *value, uint64_t number);

/* One in seconds, of so many us. */
void metrics_sample_us(
    struct metrics_out *out, const char *name, const char *suffix, const char *labels, uint64_t us);

/* The end of OpenMetrics. */
void metrics_end(struct metrics_out *out);
