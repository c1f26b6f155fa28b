#pragma once

/*
 * The HEADERS of an answer, encoded without state: indices of the static table and literals (RFC
 * 7541), nothing that the client has to keep. Pure.
 */

#include "frontd/codec/h2_frame.h"

/* The head of an answer. */
struct h2_reply {
    unsigned status;
    bool no_length;           /* 204 and 304: no Content-Length at all */
    bool end_stream;          /* no body follows */
    bool tells_table;         /* the connection's first answer: see h2_reply_write() */
    uint64_t content_length;  /* bytes */
    const char *content_type; /* NULL: none */
    struct span fields;       /* further fields, each "Name: value" and CRLF */
    struct span cors;         /* further fields, of CORS */
    struct span id;           /* the same, of the request's id */
};

/* Room that h2_reply_write() needs, in bytes. frame_max: as there. */
size_t h2_reply_room(const struct h2_reply *reply, uint32_t frame_max);

/*
 * Writes an answer's HEADERS frame, and CONTINUATION frames behind it where the block is longer
 * than frame_max, the client's SETTINGS_MAX_FRAME_SIZE. Names become lower case; fields that are
 * specific to connections of HTTP/1 are left out (RFC 9113 section 8.2.2). date: as http1_date()
 * made it. Returns the bytes written.
 *
 * The first answer of a connection says that its encoder's table has 0 bytes: a client that allows
 * less than 4,096 bytes has to be told (RFC 7541 section 4.2), and no lower limit can follow.
 */
size_t h2_reply_write(uint8_t *out, const struct h2_reply *reply, uint32_t stream,
    uint32_t frame_max, const char *date);

enum { H2_CONTINUE_SIZE = H2_HEAD_SIZE + 5 /* bytes of a HEADERS frame with ":status: 100" */ };

/* Writes the HEADERS frame of "100 Continue" (RFC 9110 section 15.2.1). */
size_t h2_continue_write(uint8_t out[static H2_CONTINUE_SIZE], uint32_t stream);
