#pragma once

/*
 * permessage-deflate (RFC 7692), as a server that never takes a context over: each message is
 * compressed by itself, in both directions, whatever the client offers. So an idle connection has
 * nothing besides the bits that were agreed on, which move with it, and a message that goes to many
 * is compressed once. No socket and no clock; zlib's memory comes from common/alloc.h.
 */

#include "common/buf.h"
#include "frontd/codec/http_head.h"

enum {
    WS_DEFLATE_BITS_MIN = 9,  /* base-2 logarithm of the window: zlib has no raw window of 8 */
    WS_DEFLATE_BITS_MAX = 15, /* what holds where nothing is said: RFC 7692 section 7.1.2.1 */
    WS_DEFLATE_WINDOWS = WS_DEFLATE_BITS_MAX - WS_DEFLATE_BITS_MIN + 1, /* sizes of it */
    WS_DEFLATE_FROM = 128,     /* bytes of a message from which compressing may pay */
    WS_DEFLATE_RATIO = 100,    /* times its compressed size that a message may have */
    WS_DEFLATE_FREE = 1 << 20, /* bytes that a message may have, however small it came */
    WS_DEFLATE_FIELD = 160,    /* of ws_deflate_field() */
};

/* What is agreed on for a connection. */
struct ws_deflate {
    uint8_t bits; /* of our window, WS_DEFLATE_BITS_MIN to _MAX; 0: messages are not compressed */
    bool told;    /* the client has asked for them: the answer has to say them */
};

/*
 * Chooses among what a client offers in Sec-WebSocket-Extensions (RFC 7692 section 5): its first
 * offer of permessage-deflate that has only known parameters, each once and with a valid value.
 * What is not acceptable or cannot be read is declined, as section 5.1 says: bits are 0 then.
 */
struct ws_deflate ws_deflate_choose(const struct http_head *head);

/*
 * Writes the line Sec-WebSocket-Extensions of the answer, with its CRLF and a NUL. agreed: as
 * ws_deflate_choose() has returned it. Returns the bytes without NUL; 0: there is no such line.
 */
size_t ws_deflate_field(struct ws_deflate agreed, char out[static WS_DEFLATE_FIELD]);

/* What compresses and inflates, for all connections of a process one after the other. Zeroed at
 * first; memory is taken when it is used for the first time. */
struct deflater {
    struct z_stream_s *inflate;
    struct z_stream_s *deflate[WS_DEFLATE_BITS_MAX + 1]; /* by the bits of its window */
};

void deflater_deinit(struct deflater *deflater);

/*
 * Inflates a message. payload: as it came, all its fragments, without the tail that RFC 7692
 * section 7.2.1 takes away. limit: the bytes that it may have. out: emptied, then filled.
 *
 * Returns 0; -EBADMSG: it is not what deflate writes, or ends in the middle; -EMSGSIZE: it is over
 * the limit, or over WS_DEFLATE_FREE and WS_DEFLATE_RATIO times its compressed size; -ENOMEM.
 */
int ws_inflate(struct deflater *deflater, struct span payload, size_t limit, struct buf *out);

/*
 * Compresses a message, as the payload of a frame with RSV1. bits: those of the connection. out:
 * emptied, then filled. Returns whether it is done; not where the result would not be smaller than
 * the message, or there is no memory: the message goes as it is (section 6.1).
 */
bool ws_deflate(struct deflater *deflater, unsigned bits, struct span payload, struct buf *out);
