#pragma once

/*
 * A line of the access log: values that were found, made JSON or text by a format string of the
 * config. Whatever bytes are in a value, a line has no control character and no byte from 0x7f up,
 * and it is at most ACCESS_LINE_MAX bytes long: values are cut. Pure.
 */

#include "common/base.h"

/* X(name in JSON and in format strings, whether it is a number). Short values stand first, so that
 * those that are cut are the long ones that a client has written. */
#define ACCESS_FIELDS(X)                                                                           \
    X(time, false)                                                                                 \
    X(listener, false)                                                                             \
    X(protocol, false)                                                                             \
    X(peer, false)                                                                                 \
    X(conn, false)                                                                                 \
    X(method, false)                                                                               \
    X(status, true)                                                                                \
    X(outcome, false)                                                                              \
    X(bytes_in, true)                                                                              \
    X(bytes_out, true)                                                                             \
    X(calls, true)                                                                                 \
    X(duration_ms, true)                                                                           \
    X(queue_ms, true)                                                                              \
    X(worker_ms, true)                                                                             \
    X(trace_id, false)                                                                             \
    X(request_id, false)                                                                           \
    X(pool, false)                                                                                 \
    X(worker, false)                                                                               \
    X(route, false)                                                                                \
    X(rpc_method, false)                                                                           \
    X(path, false)                                                                                 \
    X(user_agent, false)

enum access_field {
#define ACCESS_ENUM(name, number) ACCESS_##name,
    ACCESS_FIELDS(ACCESS_ENUM)
#undef ACCESS_ENUM
        ACCESS_FIELDS_COUNT
};

enum {
    /* Bytes of a line, its newline included: PIPE_BUF, so that a write of it is whole, or not at
     * all, where other processes write to the same pipe. */
    ACCESS_LINE_MAX = 4096,
    ACCESS_PARTS_MAX = 64,   /* literals and fields of a format string */
    ACCESS_FORMAT_MAX = 1024 /* bytes of one */
};

/* A part of a format string: text, then a field. */
struct access_part {
    struct span text; /* borrowed from the format string */
    int field;        /* enum access_field; -1: none, at the end */
};

/*
 * Reads a format string: text with fields as "${name}"; "$$" is a dollar. Returns NULL with
 * ret_parts and *ret_n, or what is wrong, static text.
 */
const char *access_format_read(
    const char *format, struct access_part ret_parts[static ACCESS_PARTS_MAX], size_t *ret_n);

/*
 * Writes a line, its newline included, and returns its length. values: by enum access_field; an
 * empty one is "-", and there is no such member in JSON. parts, n: the format; n == 0: JSON.
 */
size_t access_line_write(const struct access_part *parts, size_t n,
    const struct span values[static ACCESS_FIELDS_COUNT], char out[static ACCESS_LINE_MAX]);
