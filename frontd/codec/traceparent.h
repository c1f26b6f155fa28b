#pragma once

/* The header field traceparent: W3C Trace Context, level 2, sections 3.2 and 4. Pure. */

#include "common/base.h"

enum {
    TRACEPARENT_TRACE = 16,   /* bytes of a trace's id */
    TRACEPARENT_SPAN = 8,     /* bytes of a span's id */
    TRACEPARENT_SIZE = 55,    /* characters of a value of version 00 */
    TRACEPARENT_SAMPLED = 1,  /* flag: it is recorded by the caller */
    TRACEPARENT_RANDOM = 2,   /* flag: the last 7 bytes of the trace's id are random */
    TRACEPARENT_RANDOMS = 56, /* bits that are, then */
};

struct traceparent {
    uint8_t trace[TRACEPARENT_TRACE];
    uint8_t span[TRACEPARENT_SPAN]; /* the caller's, which is the parent of what the callee does */
    uint8_t flags;                  /* of those above */
};

/*
 * Reads a value of any version: what a version to come has behind the four members is not looked
 * at, and of the flags those are kept that are known here. Returns whether it is right; where it is
 * not, *ret is untouched, and the trace begins anew (section 4.3).
 */
bool traceparent_read(struct span value, struct traceparent *ret);

/* Writes a value of version 00, without a NUL. */
void traceparent_write(const struct traceparent *of, char out[static TRACEPARENT_SIZE]);

/* Writes `n` bytes as 2n lower-case hexadecimal digits, without a NUL. */
void traceparent_hex(const uint8_t *bytes, size_t n, char *out);

/*
 * Whether a trace is one of those that are recorded: the same answer for one trace in every process
 * that has the same threshold. threshold: 2^56 times the part of all traces that are not.
 */
bool traceparent_drawn(const struct traceparent *of, uint64_t threshold);
