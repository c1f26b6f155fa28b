#pragma once

/* How the clients of `scripts/bench reload` say things on each kind of connection. No I/O here. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum wire_kind {
    WIRE_HTTP,
    WIRE_WEBSOCKET,
    WIRE_FRAME,
    WIRE_HTTP2, /* over TLS, by ALPN */
};

enum {
    WIRE_TEXT_MAX = 256, /* bytes of a call */
    WIRE_MAX = 512,      /* with what is around it */
};

/* The kind of that name; -1 where there is none. */
int wire_kind(const char *name);

/*
 * Writes a call. n <= WIRE_TEXT_MAX. number: of the call on its connection, from 0. Returns its
 * length.
 */
size_t wire_call(enum wire_kind kind, const char *path, uint32_t number, const char *text, size_t n,
    uint8_t out[static WIRE_MAX]);

/* Writes the request that makes a WebSocket of a connection. Returns its length. */
size_t wire_upgrade(const char *path, uint8_t out[static WIRE_MAX]);

/* Writes what a connection begins with, before its first call. Returns its length; 0: nothing. */
size_t wire_begin(enum wire_kind kind, uint8_t out[static WIRE_MAX]);

/*
 * Writes what has to be answered at once to what wire_read() has read. Returns its length; 0:
 * nothing.
 */
size_t wire_answer(enum wire_kind kind, const uint8_t *p, uint8_t out[static WIRE_MAX]);

/*
 * Reads the text of a whole answer or message at the beginning of what came; that of an HTTP
 * answer is its body, whatever its status. *ret_text is left as it was where what came has none.
 * Returns its length with what is around it, 0 where it is incomplete, -1 where it is none.
 */
ssize_t wire_read(
    enum wire_kind kind, const uint8_t *p, size_t n, const char **ret_text, size_t *ret_n);

/* The same for the answer to wire_upgrade(); -1 also where it was refused. */
ssize_t wire_read_upgraded(const uint8_t *p, size_t n);
